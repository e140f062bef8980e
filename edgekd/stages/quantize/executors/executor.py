"""What an executor is: it writes a scheme in the form that one runtime reads."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import onnx

from edgekd.context import Context
from edgekd.data import Part
from edgekd.evaluate import Outputs, run_onnx
from edgekd.host import runtime_here
from edgekd.stages.quantize.accuracy_search import Found, search
from edgekd.stages.quantize.choice import Drop
from edgekd.stages.quantize.settings import Calibrator, QuantizeSettings, Rounding
from edgekd.target import QuantizationScheme

Candidate = tuple[str, ...]  # a way to quantize, in words: the calibrator first


class Quantizer(ABC):
    """A float graph that has seen the calibration part; it writes the int8 file of every candidate.

    `usual` is the candidate that sensitivity is measured with.
    """

    candidates: tuple[Candidate, ...]
    usual: Candidate

    def __init__(self, prepared: onnx.ModelProto, scheme: QuantizationScheme, context: Context) -> None:
        self.prepared, self.scheme, self.context = prepared, scheme, context

    @abstractmethod
    def write(self, candidate: Candidate, keep_float: tuple[str, ...], path: Path) -> None:
        """Write the file of a candidate; the nodes of these names stay in float.

        Raises:
            StageError: the quantizer fails.
        """

    def float_graph(self, candidate: Candidate) -> onnx.ModelProto:
        """Return the float graph whose weights a candidate rounds."""
        return self.prepared

    def hold(self, candidate: Candidate, file: Path, keep_float: tuple[str, ...], drop: Drop, most: float) -> Found:
        """Return as few further layers to keep in float as hold the drop.

        Args:
            candidate: the chosen one.
            file: what it wrote.
            keep_float: what stays in float anyway.
            drop: says how much worse outputs are than the float network's.
            most: the largest drop allowed.
        """
        context, graph = self.context, self.float_graph(candidate)
        model = onnx.load(str(file))
        return search(model, graph, drop.part, drop, most, context.workdir, context.threads, context.log)

    def run(self, file: Path, part: Part) -> Outputs:
        """Return the outputs of a file in the run's runtime, where this machine has it, else in ONNX Runtime."""
        return run_onnx(file, part, self.context.threads, runtime=runtime_here(self.context.runtime_name))

    def notes(self, candidate: Candidate, keep_float: tuple[str, ...]) -> dict[str, object]:
        """Return what the report says about the chosen file."""
        return {"calibrator": candidate[0]}


@dataclass(frozen=True)
class Executor:
    """How one runtime gets its int8 file.

    `refusal(scheme)` says what of a scheme it cannot write, or None. `check` raises where what it needs is not installed.
    `packages` change what it writes, beside those that every run depends on.
    `calibrate(prepared graph, scheme, settings, context)` shows it the calibration part. `calibrators` and `roundings` are
    those that it has; `observes_once` says whether all of them share the passes over the calibration part.
    """

    description: str
    refusal: Callable[[QuantizationScheme], str | None]
    check: Callable[[], None]
    calibrate: Callable[[onnx.ModelProto, QuantizationScheme, QuantizeSettings, Context], Quantizer]
    packages: tuple[str, ...] = ()
    calibrators: tuple[str, ...] = get_args(Calibrator)
    roundings: tuple[str, ...] = get_args(Rounding)
    observes_once: bool = True

    def ways(self, settings: QuantizeSettings) -> tuple[int, int]:
        """Return how many of the settings' calibrators and roundings are tried."""
        if settings.simulate:  # in torch
            return len(settings.calibrators), len(settings.rounding)
        calibrators = [one for one in settings.calibrators if one in self.calibrators]
        return len(calibrators), sum(one in self.roundings for one in settings.rounding) or 1


def refuse_foreign(scheme: QuantizationScheme) -> str | None:
    """Return what of a scheme belongs to a vendor's own toolkit, or None."""
    if scheme.power_of_two:
        return "power_of_two scales are for the vendor's own toolkit"
    if scheme.weight_axis != 0:
        return f"weight_axis = {scheme.weight_axis} is for weights of another layout than ONNX's (O, I, H, W)"
    return None
