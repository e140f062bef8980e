"""NNCF as the executor, for OpenVINO: Intel's own quantizer, on the ONNX graph, with the run's calibration part.

It places the rounding where OpenVINO's kernels take integers, and corrects biases. Its calibrators are those of edgekd's
that it has: extremes, percentiles, and the least squared error on a histogram.
"""

import importlib.util
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekd.context import Context
from edgekd.data import Part
from edgekd.errors import EdgekdError, InputError, StageError, ToolMissing
from edgekd.evaluate import judge_outputs
from edgekd.models.onnx_graph import fixed_batch
from edgekd.stages.export.onnx_writer import IR_VERSION
from edgekd.stages.quantize.accuracy_search import Found
from edgekd.stages.quantize.choice import Drop
from edgekd.stages.quantize.executors.executor import Candidate, Executor, Quantizer, refuse_foreign
from edgekd.stages.quantize.preparation import quiet
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.target import QuantizationScheme
from edgekd.telemetry import switch_off

CALIBRATORS = ("min-max", "percentile", "mse")
PACKAGES = ("nncf", "openvino")
RANKED = 64  # samples of the validation part that NNCF ranks layers on


class NncfQuantizer(Quantizer):
    """NNCF with each of the calibrators that it has."""

    def __init__(
        self, prepared: onnx.ModelProto, scheme: QuantizationScheme, settings: QuantizeSettings, context: Context
    ) -> None:
        super().__init__(prepared, scheme, context)
        self._settings = settings
        known = [one for one in settings.calibrators if one in CALIBRATORS]
        if not known:
            raise InputError(f"quantize.calibrators: NNCF has {', '.join(CALIBRATORS)}, not {settings.calibrators[0]}")
        self.candidates = tuple((one,) for one in known)
        self.usual = self.candidates[-1]
        self._calibration = list(_feeds(context.parts.calibration, prepared))
        if not self._calibration:
            raise InputError("the calibration part is empty: ranges come from real samples; give more data")

    def write(self, candidate: Candidate, keep_float: tuple[str, ...], path: Path) -> None:
        """Write the file of a candidate."""
        with _nncf() as nncf:
            model = nncf.quantize(
                _copy(self.prepared),
                nncf.Dataset(self._calibration),
                advanced_parameters=self._advanced(candidate[0]),
                **self._arguments(keep_float),
            )
        model.ir_version = min(model.ir_version, IR_VERSION)
        del model.metadata_props[:]
        onnx.save(model, str(path))

    def hold(self, candidate: Candidate, file: Path, keep_float: tuple[str, ...], drop: Drop, most: float) -> Found:
        """Let NNCF take layers back to float, first those whose rounding costs most, until the drop is small enough."""
        path = file.with_name("held.onnx")

        def value(model: onnx.ModelProto, positions: Iterable[int]) -> tuple[float, None]:
            onnx.save(model, str(path))
            few = drop.at(list(positions))
            found = judge_outputs(self.run(path, few.part), few.reference, few.part, drop.metric)
            if len(few.part) == len(drop.part):  # a whole file; parts of the samples rank the layers
                self.context.log(f"quantize: NNCF tries a file: {drop.metric.name} {found:.4g} on validation")
            return (found if drop.metric.higher_is_better else -found), None

        with _nncf() as nncf:
            restoring = nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=RANKED, num_ranking_workers=1)
            model = nncf.quantize_with_accuracy_control(
                _copy(self.prepared),
                nncf.Dataset(self._calibration),
                nncf.Dataset(list(range(len(drop.part)))),
                value,
                max_drop=most,
                advanced_quantization_parameters=self._advanced(candidate[0]),
                advanced_accuracy_restorer_parameters=restoring,
                **self._arguments(keep_float),
            )
        before, after = _integer_nodes(onnx.load(str(file))), _integer_nodes(model)
        onnx.save(model, str(path))
        reached = drop(self.run(path, drop.part))
        path.unlink()
        layers = tuple(name for name in before if name not in after)
        self.context.log(f"quantize: NNCF took {len(layers)} of {len(before)} nodes back to float: drop {reached:.3g}")
        return Found(layers, reached, reached <= most)

    def _arguments(self, keep_float: tuple[str, ...]) -> dict[str, Any]:
        import nncf

        presets = nncf.QuantizationPreset
        nodes = self.prepared.graph.node
        operators = self.scheme.operators or {node.op_type for node in nodes}
        kept = [node.name for node in nodes if node.op_type not in operators or node.name in keep_float]
        return {
            "subset_size": len(self._calibration),
            "ignored_scope": nncf.IgnoredScope(names=kept, validate=False),
            "preset": presets.PERFORMANCE if self.scheme.activation_symmetric else presets.MIXED,
            "model_type": nncf.ModelType.TRANSFORMER if _attends(self.prepared) else None,
        }

    def _advanced(self, calibrator: str) -> Any:
        import nncf
        from nncf.quantization.advanced_parameters import QuantizationParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        narrow = self.scheme.weight_range == "seven-bit"
        return nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE if narrow else nncf.OverflowFix.DISABLE,
            disable_bias_correction=not self._settings.bias_correction,
            weights_quantization_params=QuantizationParameters(per_channel=self.scheme.per_channel),
            activations_range_estimator_params={
                "min-max": RangeEstimatorParametersSet.MINMAX,
                "percentile": self._percentile(),
                "mse": RangeEstimatorParametersSet.HISTOGRAM,
            }[calibrator],
        )

    def _percentile(self) -> Any:
        """Return the range estimator of the mean percentile over the samples."""
        from nncf.quantization.range_estimator import (
            AggregatorType,
            RangeEstimatorParameters,
            StatisticsCollectorParameters,
            StatisticsType,
        )

        outside = (1 - self._settings.percentile / 100) / 2
        end = StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MEAN, quantile_outlier_prob=outside)
        return RangeEstimatorParameters(end, end)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def _feeds(part: Part, model: onnx.ModelProto) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the samples of a part one by one, or in the batches that the graph is fixed to; an incomplete one is left out."""
    batch = fixed_batch(model) or 1
    names = [value.name for value in model.graph.input]
    for feeds in part.batches(batch):
        if len(feeds[names[0]]) == batch:
            yield {name: np.ascontiguousarray(feeds[name]) for name in names}


def _attends(model: onnx.ModelProto) -> bool:
    """Return whether a product of activations takes a softmax's output, as in attention."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return any(node.op_type == "MatMul" and makers.get(node.input[0]) == "Softmax" for node in model.graph.node)


def _integer_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that read rounded values."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    pair = ("QuantizeLinear", "DequantizeLinear")
    return [
        node.name
        for node in model.graph.node
        if node.op_type not in pair and any(makers.get(name) == "DequantizeLinear" for name in node.input)
    ]


@contextmanager
def _nncf() -> Iterator[Any]:
    """Open NNCF, with its telemetry, its progress and its advice off; its failures become ours.

    Raises:
        StageError: NNCF fails.
    """
    switch_off()
    try:
        with quiet():
            import nncf

            nncf.set_log_level(logging.ERROR)
            yield nncf
    except EdgekdError:
        raise
    except Exception as error:  # its errors have no common base
        raise StageError(f"NNCF cannot quantize the graph: {error}") from error


def _check() -> None:
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ToolMissing(f'{" and ".join(missing)} not installed: pip install "edgekd[openvino]"')


def _refusal(scheme: QuantizationScheme) -> str | None:
    if scheme.activation_dtype == "int16" or scheme.weight_dtype != "int8" or not scheme.weight_symmetric:
        return "NNCF writes 8 bits here, with symmetric weights"
    return refuse_foreign(scheme)


EXECUTOR = Executor(
    "NNCF, Q/DQ form", _refusal, _check, NncfQuantizer, PACKAGES, CALIBRATORS, ("nearest",), observes_once=False
)
