"""The figures that a budget or a baseline can be about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What kind of figure it is.

    `threshold_percent` is how much worse than the baseline it may be, unless the budget says otherwise; without one it only
    informs. `launched` figures come from running the model.
    """

    dimension: str
    threshold_percent: float | None
    launched: bool = True


KINDS = {
    "latency-min": Kind("time", 5.0),
    "latency-p50": Kind("time", 5.0),
    "latency-p90": Kind("time", 10.0),
    "latency-p95": Kind("time", 15.0),
    "latency-p99": Kind("time", 25.0),
    "cpu-time": Kind("time", 5.0),
    "instructions": Kind("count", 1.0),
    "energy": Kind("energy", None),
    "memory": Kind("bytes", 10.0),
    "size": Kind("bytes", 1.0, launched=False),
    "accuracy-drop": Kind("accuracy", None, launched=False),
}
