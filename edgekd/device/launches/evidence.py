"""From launches to figures: percentiles and the minimum over all calls, everything else as the median over the launches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import Array
from ..intervals import quantile_interval
from .figures import PERCENTILES, Figure
from .launcher import Launch

_NONE = "nothing was measured"
_NO_CPU_TIME = "this system's CPU clock ticks too slowly"


@dataclass
class Evidence:
    """Launches, in the order in which they ran, those that measure energy apart."""

    launches: list[Launch] = field(default_factory=list)
    energy: list[Launch] = field(default_factory=list)

    def __add__(self, other: "Evidence") -> "Evidence":
        """Return the launches of both."""
        return Evidence(self.launches + other.launches, self.energy + other.energy)

    def noises(self) -> list[dict[str, Any]]:
        """Return what disturbed each launch."""
        return [one.result["noise"] for one in self.launches if one.result["noise"] is not None]

    def figure(self, name: str, role: str = "candidate") -> Figure:
        """Return a figure of a model that was launched."""
        if name == "energy":
            return _energy([one.result["models"][role] for one in self.energy])
        if not self.launches:
            return Figure(None, reason=_NONE)
        models = [one.result["models"][role] for one in self.launches]
        if name == "instructions":
            return _instructions(models)
        if name == "memory":
            held = [one["memory_mib"] * 2**20 for one in models if one["memory_mib"] is not None]
            return _over_launches(held, "no launch could tell the peak memory of this model alone")
        if models[0]["latency"] is None:
            return Figure(None, reason=models[0]["latency_absent"])
        if name in PERCENTILES:
            times = np.concatenate([one.times_ms[role] for one in self.launches])
            return _percentile(times, *PERCENTILES[name])
        if name == "latency-min":  # other work only adds: the fastest call of all is the least disturbed
            calls = sum(len(one.times_ms[role]) for one in self.launches)
            return Figure(min(one["latency"]["min_ms"] for one in models), how="measured", samples=calls)
        values = [one["latency"]["cpu_ms"] for one in models]
        return _over_launches([one for one in values if one is not None], _NO_CPU_TIME)

    def ratio(self, name: str) -> Figure:
        """Return how many times the baseline's figure the candidate's is, where both were launched together."""
        new, old = self.figure(name), self.figure(name, "baseline")
        if new.value is None or old.value is None:
            return Figure(None, reason=new.reason or old.reason)
        if name in ("energy", "memory"):
            return ratio_of(new, old)
        if name == "instructions":
            launched = [one.result["models"] for one in self.launches]
            pairs = [pair for pair in launched if all(one["instructions"] is not None for one in pair.values())]
            counts = [[pair[role]["instructions"]["per_call"] for role in ("candidate", "baseline")] for pair in pairs]
            return _over_launches([a / b for a, b in counts], _NONE)
        ratios = [one.result["ratios"][name] for one in self.launches if name in one.result["ratios"]]
        return _over_launches(ratios, _NO_CPU_TIME)


def ratio_of(new: Figure, old: Figure) -> Figure:
    """Return how many times the one figure the other is, measured apart; the interval holds whatever both of theirs allow."""
    if new.value is None or old.value is None:
        return Figure(None, reason=new.reason or old.reason)
    if old.value <= 0 or old.low == 0:
        return Figure(None, reason="the baseline's figure cannot be told from 0")
    if new.how != old.how:
        return Figure(None, reason=f"the baseline's figure is {old.how}, this one {new.how}")
    if new.low is None and old.low is None:
        return Figure(new.value / old.value, how=new.how)
    low = (new.value if new.low is None else new.low) / (old.value if old.high is None else old.high)
    high = (new.value if new.high is None else new.high) / (old.value if old.low is None else old.low)
    return Figure(new.value / old.value, low, high, new.how)


def _percentile(times_ms: Array, quantile: float, needed: int) -> Figure:
    if len(times_ms) < needed:
        reason = (
            f"p{100 * quantile:.0f} needs {needed} calls, {len(times_ms)} were made: measure for longer (--duration)"
        )
        return Figure(None, samples=len(times_ms), reason=reason)
    low, high = quantile_interval(times_ms, quantile)
    return Figure(
        float(np.quantile(times_ms, quantile)),
        float(times_ms.min()) if low is None else low,
        float(times_ms.max()) if high is None else high,
        "measured",
        len(times_ms),
    )


def _over_launches(values: Sequence[float], absent: str, how: str = "measured") -> Figure:
    """Return the median with its 95 % interval, or the range of fewer than six launches; of a single one there is none."""
    if not values:
        return Figure(None, reason=absent)
    given = np.asarray(values, dtype=np.float64)
    if len(given) == 1:
        return Figure(float(given[0]), how=how, samples=1)
    low, high = quantile_interval(given, 0.5, independent=True)
    return Figure(
        float(np.median(given)),
        float(given.min()) if low is None else low,
        float(given.max()) if high is None else high,
        how,
        len(given),
    )


def _instructions(models: Sequence[dict[str, Any]]) -> Figure:
    counts = [one["instructions"] for one in models if one["instructions"] is not None]
    if not counts:
        return Figure(None, reason=models[0]["instructions_absent"])
    if len(counts) == 1:
        one = counts[0]
        return Figure(one["per_call"], one["low"], one["high"], one["how"], one["calls"])
    return _over_launches([one["per_call"] for one in counts], _NONE, counts[0]["how"])


def _energy(models: Sequence[dict[str, Any]]) -> Figure:
    """Return the mean over the launches; that of k independent means is known the better by the square root of k."""
    absent = next((one["energy_absent"] for one in models if one["energy"] is None), None)
    if absent is not None or not models:
        return Figure(None, reason=absent or "energy is not measured: no budget is about it")
    found = [one["energy"] for one in models]
    mean = float(np.mean([one["total_mj"] for one in found]))
    halves = [(one["total_high_mj"] - one["total_low_mj"]) / 2 for one in found]
    half = float(np.linalg.norm(halves)) / len(found)
    return Figure(mean, max(mean - half, 0.0), mean + half, "measured", sum(one["samples"] for one in found))
