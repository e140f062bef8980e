"""Roughly how long a stage takes: passes over parts of the data, times the measured time of one sample forward.

A sample trained is three passes of the student, forward and twice as much backward, and one of the teacher. The constants are
seconds on one core of a server.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2
from typing import Any

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.signature import Signature
from edgekd.recipe import StageSettings
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.half.settings import HalfSettings
from edgekd.stages.mask.settings import MaskSettings
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.quantize import accuracy_search
from edgekd.stages.quantize.dynamic import DynamicSettings
from edgekd.stages.quantize.executors import executor_of
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.stages.quantize.weight_only.settings import WeightOnlySettings
from edgekd.stages.rewrite.payoff import why_not_timed
from edgekd.stages.rewrite.settings import RewriteSettings

FAKE_QUANTIZED = 2.25  # a training step of a fake-quantized network against one in float: 2 to 2.5 measured
TIMED = 3.0  # warming up and timing two files


@dataclass(frozen=True)
class Course:
    """What the stages so far have made of the network, as far as it matters for the time.

    `rate` is that of one sample forward in the network as it is given, in seconds; None where it was not measured. `share` of
    its MACs is left; a training step takes `slower` times as long as in float.
    """

    signature: Signature
    rate: float | None
    layers: int
    share: float = 1.0
    slower: float = 1.0

    def after(self, settings: StageSettings) -> "Course":
        """Return the course behind a stage."""
        if isinstance(settings, PruneSettings):
            return replace(self, share=settings.to_macs or settings.to_parameters or self.share)
        if isinstance(settings, QuantizeSettings) and settings.simulate:
            return replace(self, slower=FAKE_QUANTIZED)
        return self


def seconds_of(settings: StageSettings, course: Course, context: Context) -> float | None:
    """Return roughly how long a stage takes, in seconds; None where that is not known."""
    estimate = _ESTIMATES.get(type(settings))
    return None if estimate is None else estimate(settings, course, context)


def _prune(settings: PruneSettings, course: Course, context: Context) -> float:
    left = settings.to_macs or settings.to_parameters or course.share
    tried = settings.search * settings.search_epochs * len(context.parts.train)
    return 10.0 + settings.search + tried * (course.rate or 0) * (3 * left + 1)


def _distill(settings: DistillSettings, course: Course, context: Context) -> float | None:
    if course.rate is None:
        return None
    epochs = settings.total_epochs(course.signature)
    forwards = epochs * (3 * course.share * course.slower + 1) + 3 * settings.teacher_correction
    return forwards * len(context.parts.train) * course.rate


def _mask(settings: MaskSettings, course: Course, context: Context) -> float:
    passes = settings.epochs * len(context.parts.train) * 3 * course.share * course.slower
    if course.slower > 1 and not settings.epochs:  # its ranges are set anew
        passes += 2 * len(context.parts.calibration)
    return 1.0 + passes * (course.rate or 0)


def _quantize(settings: QuantizeSettings, course: Course, context: Context) -> float | None:
    calibration, validation = len(context.parts.calibration), len(context.parts.validation)
    try:
        executor = executor_of(context)
    except InputError:  # the plan says why it cannot work
        return None
    calibrators, roundings = executor.ways(settings)
    tried = calibrators if settings.simulate else calibrators * roundings
    passes = 2 * calibration + (tried + 1) * validation
    if not settings.simulate and not executor.observes_once:
        passes += 2 * (tried - 1) * calibration
    if settings.accuracy_drop is not None:
        steps = log2(max(course.layers, 1)) + accuracy_search.RETURNED
        passes += course.layers * min(accuracy_search.SAMPLES, validation) + round(steps * validation)
    return 5.0 + passes * course.share * (course.rate or 0)


def _weights(settings: WeightOnlySettings, course: Course, context: Context) -> float:
    passes = (len(settings.rounding) + 1) * len(context.parts.validation)
    if "least-output-error" in settings.rounding:
        passes += len(context.parts.calibration)
    return 4.0 + passes * course.share * (course.rate or 0)


def _dynamic(settings: DynamicSettings, course: Course, context: Context) -> float:
    return 4.0  # nothing is calibrated or tried


def _half(settings: HalfSettings, course: Course, context: Context) -> float:
    return 4.0 + len(context.parts.calibration) * course.share * (course.rate or 0)


def _rewrite(settings: RewriteSettings, course: Course, context: Context) -> float:
    count = len(settings.rewrites)
    measured = sum(one.for_speed for one in settings.rewrites) if settings.keep == "if-better" else 0
    timed = measured * TIMED if why_not_timed(context) is None else 0.0
    return 2.0 * count + timed + count * 2 * len(context.parts.validation) * course.share * (course.rate or 0)


_ESTIMATES: dict[type[StageSettings], Callable[[Any, Course, Context], float | None]] = {
    PruneSettings: _prune,
    DistillSettings: _distill,
    MaskSettings: _mask,
    QuantizeSettings: _quantize,
    WeightOnlySettings: _weights,
    DynamicSettings: _dynamic,
    HalfSettings: _half,
    RewriteSettings: _rewrite,
}
