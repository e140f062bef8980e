"""The diagnosis of an int8 file: every layer's error alone and in place, its price in float, and what ran."""

import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgekd.context import Progress
from edgekd.data import Part
from edgekd.errors import InputError, device_errors_as
from edgekd.evaluate import Outputs, deciding_metric, judge_outputs, run_onnx
from edgekd.files import sha256
from edgekd.metrics import Metric, choose_metric, fidelity_of, signal_to_noise
from edgekd.models.onnx_graph import node_macs
from edgekd.models.precision import precision_of
from edgekd.models.qdq_graph import QdqGraph, RoundedLayer
from edgekd.models.source import Opening, kept_data, open_model
from edgekd.run import onnx_of_stage, stage_folder
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.half.conversion import to_float
from edgekd.stages.quantize.preparation import prepare
from edgekd.stages.quantize.sensitivity import squared_change
from edgekd.verbs.diagnose.advice import advise
from edgekd.verbs.diagnose.layer_error import layer_errors, weight_outliers
from edgekd.verbs.diagnose.speed import Kernel, conversion_share, kernels
from edgekd.verbs.subject import cut_of, dataset_of, judgeable, open_subject, part_of, run_of

TRIED = 8  # noisiest layers that are tried in float, each alone


@dataclass(frozen=True)
class LayerDiagnosis:
    """A layer that reads rounded values.

    `alone_*` are of the float network with this layer rounded and nothing else; `noise` is its share of the sum of such
    errors. `without_*` are of the int8 network with this layer in float; None where it was not tried. `output_*` compare
    the layer's own output in the int8 network with float. `macs` and `weights` are its shares of the network's.
    """

    name: str
    operator: str
    noise: float
    alone_sqnr_db: float
    alone_score: float
    output_sqnr_db: float
    output_cosine: float
    weight_sqnr_db: float | None
    clipped: float
    dynamic_range: float | None
    input_outliers: tuple[int, ...]
    weight_outliers: tuple[int, ...]
    macs: float
    weights: float
    without_sqnr_db: float | None = None
    without_score: float | None = None
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All of it; layers come noisiest first. `sha256` is the file's; `float_score` is that of the same graph with nothing rounded."""

    model: str
    sha256: str
    data: str
    samples: int
    metric: str
    unit: str
    float_score: float
    score: float
    sqnr_db: float
    layers: tuple[LayerDiagnosis, ...]
    kernels: tuple[Kernel, ...]
    conversions: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"schema": 1, **asdict(self)}


@device_errors_as(InputError)
def diagnose(
    model: Path,
    data: str | None = None,
    *,
    opening: Opening,
    reference: Path | None = None,
    metric: str | None = None,
    samples: int = 256,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find the layers of an int8 file that cost accuracy, and those that do not run in int8.

    Args:
        model: an ONNX file in Q/DQ form, an artifact, or a run directory.
        data: as for `score`.
        opening: how to open a model file, the reference too.
        reference: the float network: what rounding did to the weights is seen only beside it. By default that which the run
            quantized.
        metric: by default the model's own; without labels a fidelity to the float network.
        samples: of the validation part, the first ones.
        threads: of the runtime; by default those that torch takes.
        progress: shows a bar.

    Raises:
        InputError: nothing in the file is rounded, the reference is another network, or the data do not fit.
    """
    threads = threads or torch.get_num_threads()
    run = run_of(model)
    data = data if data is not None or run is None else kept_data(run)
    subject = open_subject(model, data, opening, threads)
    if subject.file is None:
        raise InputError(f"{model} is no ONNX file: give what quantize wrote, a run directory or an artifact")
    quantized = onnx.load(str(subject.file))
    precision = precision_of(quantized)
    if precision not in ("int8", "int8+fp16"):
        raise InputError(
            f"{subject.file} is {precision}: diagnose takes what has integer activations in Q/DQ form, int8 alone or beside "
            "float16 (quantize, quantize --mixed); `edgekd eval` says what other precisions cost as a whole"
        )
    floats = to_float(quantized) if precision == "int8+fp16" else quantized
    cut, _ = cut_of(run)
    dataset = dataset_of(subject, data, cut)
    labelled = dataset.targets is not None
    wanted = metric or subject.signature.metric or (None if labelled else fidelity_of(subject.signature.task))
    part = part_of(dataset, subject.signature, "validation", cut)
    chosen = deciding_metric(choose_metric(wanted, subject.signature.task, labelled=labelled), part)
    part = judgeable(part, chosen).take(samples)
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        workdir = Path(folder)
        source, notes = _reference(reference, run, floats, opening, workdir)
        if floats is not quantized:
            notes.append(
                "what is float16 in the file counts as float32 here, but for the times: the noise is that of int8 alone"
            )
        if subject.runtime != "onnxruntime":
            notes.append(
                f"scores and times are {subject.runtime}'s; what single layers read and give is as in ONNX Runtime"
            )
        graph = QdqGraph(floats, source)
        if not graph.layers:
            raise InputError(f"{subject.file} is in operator form (QLinearConv): diagnose reads the Q/DQ form")
        if source is not None and graph.unmatched:
            notes.append(
                f"the reference has no weights like those of {', '.join(graph.unmatched[:3])}"
                f"{' ...' if len(graph.unmatched) > 3 else ''}: what rounding did to them is not seen"
            )
        history = _history(run)
        found = _Measured(graph, part, chosen, workdir, threads, subject.runtime, progress).diagnosis(history.tried)
        feeds = next(iter(part.batches(1)))
        ran = tuple(kernels(subject.file, quantized, feeds, threads, history.kept_float, subject.runtime))
    return Diagnosis(
        model=subject.name,
        sha256=sha256(subject.file),
        data=dataset.origin,
        samples=len(part),
        metric=chosen.name,
        unit=chosen.unit,
        kernels=ran,
        conversions=conversion_share(ran),
        notes=tuple(notes),
        **found,
    )


def _reference(
    reference: Path | None, run: Path | None, quantized: onnx.ModelProto, opening: Opening, workdir: Path
) -> tuple[onnx.ModelProto | None, list[str]]:
    """Return the float graph with batch norms folded, and notes; None where there is none."""
    if reference is None and run is not None:
        reference = _parent_of_quantize(run)
    if reference is None:
        return None, ["without --reference FLOAT_MODEL only the rounding of activations is seen, not that of weights"]
    path = workdir / "reference.onnx"
    if reference.suffix == ".onnx":
        path = reference
    else:
        state = open_model(reference, opening).state
        write_onnx(state.torch.module, state.signature, path)
    prepared = prepare(path, workdir / "prepared.onnx")
    mine = {value.name for value in quantized.graph.input}
    theirs = {value.name for value in prepared.graph.input}
    if mine != theirs:
        raise InputError(f"the file takes {', '.join(sorted(mine))}, the reference {', '.join(sorted(theirs))}")
    return prepared, []


@dataclass(frozen=True)
class _History:
    """What the run tells of its quantization: the calibrators it compared, and why nodes stayed in float."""

    tried: frozenset[str] = frozenset()
    kept_float: Mapping[str, str] = field(default_factory=dict)


def _history(run: Path | None) -> _History:
    notes = [] if run is None else [stage["notes"] for stage in _stages(run) if stage["name"].startswith("quantize")]
    if not notes:
        return _History()
    tried = frozenset(candidate.split(", ")[0] for candidate in notes[-1].get("validation", ()))
    return _History(tried, notes[-1].get("kept_float", {}))


def _stages(run: Path) -> list[dict[str, Any]]:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    stages: list[dict[str, Any]] = report.get("targets", [report])[0]["stages"]
    return stages


def _parent_of_quantize(run: Path) -> Path | None:
    """Return the ONNX file that a run quantized; None where what was quantized was trained afterwards."""
    stages = _stages(run)
    names = [stage["name"] for stage in stages]
    position = next((number for number, name in enumerate(names) if name.startswith("quantize")), 0)
    if position == 0 or any(name.startswith("distill") for name in names[position:]):
        return None
    before = stages[position - 1]
    return onnx_of_stage(stage_folder(run, before["name"], before["key"]))


class _Measured:
    """The runs of one graph with chosen layers rounded."""

    def __init__(
        self,
        graph: QdqGraph,
        part: Part,
        metric: Metric,
        workdir: Path,
        threads: int,
        runtime: str,
        progress: Progress | None,
    ) -> None:
        self.graph, self.part, self.metric = graph, part, metric
        self.workdir, self.threads, self.runtime, self.progress = workdir, threads, runtime, progress
        self.everything = {layer.name for layer in graph.layers}
        self.reference: Outputs = self._outputs(())

    def diagnosis(self, calibrators: Collection[str]) -> dict[str, Any]:
        """Return all that is measured of the layers, by the names of the diagnosis; `calibrators` were compared before."""
        layers = self.graph.layers
        tried = min(TRIED, len(layers))
        opened = (
            self.progress("diagnose", len(layers) + tried + 1) if self.progress else nullcontext(lambda steps: None)
        )
        with opened as advance:
            errors = layer_errors(self.graph, self.part, self.workdir, self.threads)
            prices = self._prices()
            advance(1)
            alone = {layer.name: self._judge({layer.name}, advance) for layer in layers}
            noise = {name: 10 ** (-one[1] / 10) for name, one in alone.items()}
            total = max(sum(noise.values()), 1e-30)
            score, sqnr = self._judge(self.everything, lambda steps: None)
            found: list[LayerDiagnosis] = []
            for layer in sorted(layers, key=lambda one: -noise[one.name]):
                error = errors[layer.name]
                one = LayerDiagnosis(
                    name=layer.name,
                    operator=layer.operator,
                    noise=noise[layer.name] / total,
                    alone_sqnr_db=alone[layer.name][1],
                    alone_score=alone[layer.name][0],
                    output_sqnr_db=error.sqnr_db,
                    output_cosine=error.cosine,
                    weight_sqnr_db=_weight_sqnr(layer),
                    clipped=error.clipped_share,
                    dynamic_range=error.dynamic_range,
                    input_outliers=tuple(error.outlier_channels()),
                    weight_outliers=tuple(weight_outliers(layer)),
                    macs=prices.get(layer.name, (0.0, 0.0))[0],
                    weights=prices.get(layer.name, (0.0, 0.0))[1],
                )
                if len(found) < tried:
                    without = self._judge(self.everything - {layer.name}, advance)
                    one = replace(one, without_score=without[0], without_sqnr_db=without[1])
                found.append(replace(one, advice=advise(one, score, sqnr, self.metric, calibrators)))
        float_score = judge_outputs(self.reference, self.reference, self.part, self.metric)
        return {"float_score": float_score, "score": score, "sqnr_db": sqnr, "layers": tuple(found)}

    def _judge(self, chosen: Sequence[str] | set[str], advance: Callable[[int], None]) -> tuple[float, float]:
        """Return the metric and the signal-to-noise ratio in dB with these layers rounded."""
        outputs = self._outputs(chosen)
        advance(1)
        value = judge_outputs(outputs, self.reference, self.part, self.metric)
        changes = [squared_change(outputs[name], one) for name, one in self.reference.items() if one.dtype.kind == "f"]
        return value, float(-10 * np.log10(max(float(np.mean(changes)), 1e-20)))

    def _outputs(self, chosen: Sequence[str] | set[str]) -> Outputs:
        path = self.workdir / "chosen.onnx"
        onnx.save(self.graph.rounding(chosen), str(path))
        return run_onnx(path, self.part, self.threads, self.runtime)

    def _prices(self) -> dict[str, tuple[float, float]]:
        """Return the share of multiply-accumulates and of weights of every layer."""
        model = self.graph.rounding(())
        sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
        counted = {
            node.name: (macs or 0, sizes.get(node.input[1], 0) if len(node.input) > 1 else 0)
            for node, macs in node_macs(model)
        }
        macs, weights = (max(sum(pair[number] for pair in counted.values()), 1) for number in (0, 1))
        return {name: (pair[0] / macs, pair[1] / weights) for name, pair in counted.items()}


def _weight_sqnr(layer: RoundedLayer) -> float | None:
    if layer.weight is None or layer.rounded_weight is None:
        return None
    if np.array_equal(layer.weight, layer.rounded_weight):
        return None
    return signal_to_noise(layer.rounded_weight, layer.weight)
