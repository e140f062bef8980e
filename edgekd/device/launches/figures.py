"""A figure: a number with its interval and origin, or the reason why there is none."""

from dataclasses import asdict, dataclass
from typing import Any

from ..latency import SAMPLES_FOR_P90, SAMPLES_FOR_P95, SAMPLES_FOR_P99

PERCENTILES = {  # of wall time: the quantile, and how many calls it needs
    "latency-p50": (0.50, 1),
    "latency-p90": (0.90, SAMPLES_FOR_P90),
    "latency-p95": (0.95, SAMPLES_FOR_P95),
    "latency-p99": (0.99, SAMPLES_FOR_P99),
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
