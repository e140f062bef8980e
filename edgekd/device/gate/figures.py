"""The figures that a budget or a baseline can be about."""

from dataclasses import asdict, dataclass
from typing import Any

from ..latency import SAMPLES_FOR_P90, SAMPLES_FOR_P95, SAMPLES_FOR_P99


@dataclass(frozen=True)
class Kind:
    """What kind of figure it is.

    `threshold_percent` is how much worse than the baseline it may be, unless the budget says otherwise; without one it only
    informs. `quantile` is that of a percentile of wall time, which `samples` calls are needed for. `launched` figures come from
    running the model.
    """

    dimension: str
    threshold_percent: float | None
    quantile: float | None = None
    samples: int = 1
    launched: bool = True


KINDS = {
    "latency-min": Kind("time", 5.0),
    "latency-p50": Kind("time", 5.0, 0.50),
    "latency-p90": Kind("time", 10.0, 0.90, SAMPLES_FOR_P90),
    "latency-p95": Kind("time", 15.0, 0.95, SAMPLES_FOR_P95),
    "latency-p99": Kind("time", 25.0, 0.99, SAMPLES_FOR_P99),
    "cpu-time": Kind("time", 5.0),
    "instructions": Kind("count", 1.0),
    "energy": Kind("energy", None),
    "memory": Kind("bytes", 10.0),
    "size": Kind("bytes", 1.0, launched=False),
    "accuracy-drop": Kind("accuracy", None, launched=False),
}


@dataclass(frozen=True)
class Figure:
    """A number in the unit of its kind, the ends of its 95 % interval and how it was obtained; or absent, with the reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    how: str | None = None
    samples: int | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)
