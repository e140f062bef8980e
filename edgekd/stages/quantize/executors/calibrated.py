"""Quantizing with edgekd's own calibration: ranges, rounding and equalization are tried, an executor writes the file."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import onnx

from edgekd.context import Context
from edgekd.stages.quantize.calibration import Range, choose_range
from edgekd.stages.quantize.equalization import equalize
from edgekd.stages.quantize.executors.executor import Candidate, Quantizer
from edgekd.stages.quantize.observation import Histogram, observe
from edgekd.stages.quantize.rounding import RoundedLayer, round_layers
from edgekd.stages.quantize.settings import Calibrator, QuantizeSettings, Rounding
from edgekd.target import QuantizationScheme

# prepared graph, ranges of activations, rounded layers, scheme, what stays in float, path
Write = Callable[
    [onnx.ModelProto, dict[str, Range], list[RoundedLayer], QuantizationScheme, tuple[str, ...], Path], None
]
EQUALIZED = "equalized"


@dataclass
class _Observed:
    """A graph after the calibration part: histograms of its activations, and its layers in every rounding."""

    graph: onnx.ModelProto
    histograms: dict[str, Histogram]
    layers: dict[Rounding, list[RoundedLayer]]
    ranges: dict[Calibrator, dict[str, Range]] = field(default_factory=dict)


class CalibratedQuantizer(Quantizer):
    """Every calibrator with every rounding, with and without equalization, written by `write`."""

    def __init__(
        self,
        prepared: onnx.ModelProto,
        scheme: QuantizationScheme,
        settings: QuantizeSettings,
        context: Context,
        write: Write,
    ) -> None:
        super().__init__(prepared, scheme, context)
        self._settings, self._write = settings, write
        self._observed = {"": self._observe(prepared)}
        if settings.equalization != "off":
            found = equalize(prepared)
            if found.pairs and settings.equalizes(scheme, found.spread):
                context.log(f"quantize: {found.pairs} pair{'s' if found.pairs != 1 else ''} of layers can be equalized")
                self._observed[EQUALIZED] = self._observe(found.graph)
        ways = itertools.product(self._observed, settings.calibrators, settings.rounding)
        self.candidates = tuple(
            (calibrator, rounding, *([graph] if graph else [])) for graph, calibrator, rounding in ways
        )
        self.usual = ("mse", settings.rounding[0])

    def write(self, candidate: Candidate, keep_float: tuple[str, ...], path: Path) -> None:
        """Write the file of a candidate."""
        observed = self._of(candidate)
        calibrator, rounding = self._words(candidate)
        ranges = self._ranges(observed, calibrator)
        self._write(observed.graph, ranges, observed.layers[rounding], self.scheme, keep_float, path)

    def float_graph(self, candidate: Candidate) -> onnx.ModelProto:
        """Return the prepared graph, equalized where the candidate is."""
        return self._of(candidate).graph

    def notes(self, candidate: Candidate, keep_float: tuple[str, ...]) -> dict[str, object]:
        """Return calibrator, rounding and equalization, and how many biases were corrected."""
        calibrator, rounding = self._words(candidate)
        layers = self._of(candidate).layers[rounding]
        corrected = (one.bias is not None and one.layer.node not in keep_float for one in layers)
        return {
            "calibrator": calibrator,
            "rounding": rounding if layers else "nearest",
            "equalized": EQUALIZED in candidate,
            "biases_corrected": sum(corrected),
        }

    @staticmethod
    def _words(candidate: Candidate) -> tuple[Calibrator, Rounding]:
        return cast(Calibrator, candidate[0]), cast(Rounding, candidate[1])

    def _of(self, candidate: Candidate) -> _Observed:
        return self._observed[EQUALIZED if EQUALIZED in candidate else ""]

    def _observe(self, graph: onnx.ModelProto) -> _Observed:
        context, settings = self.context, self._settings
        seen = observe(graph, context.parts.calibration, context.workdir, context.threads)
        layers = {
            rounding: round_layers(graph, seen.moments, self.scheme, rounding, bias_correction=settings.bias_correction)
            for rounding in settings.rounding
        }
        return _Observed(graph, seen.histograms, layers)

    def _ranges(self, observed: _Observed, calibrator: Calibrator) -> dict[str, Range]:
        if calibrator not in observed.ranges:
            observed.ranges[calibrator] = {
                name: choose_range(one, calibrator, self._settings, symmetric=self.scheme.activation_symmetric)
                for name, one in observed.histograms.items()
            }
        return observed.ranges[calibrator]
