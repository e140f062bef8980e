"""Budgets: limits on figures, and the verdict."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekd.figures import Figure


class Budget(BaseModel):
    """Limits on the final artifact; an absent one is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy_drop: float | None = Field(
        default=None, description="how much worse the metric may get, in its own unit (points for percent)"
    )
    size_kb: float | None = Field(default=None, gt=0, description="size of the model file, in 1000 bytes")
    macs: int | None = Field(default=None, gt=0, description="multiply-accumulates of one sample")
    latency_ms: float | None = Field(
        default=None, gt=0, description="p50 of one inference on the target itself, not on this machine"
    )
    energy_mj: float | None = Field(default=None, gt=0, description="energy of one inference on the target itself")
    memory_mb: float | None = Field(default=None, gt=0, description="peak memory on the target itself")


@dataclass(frozen=True)
class Verdict:
    """One limit against its figure."""

    limit: str
    allowed: float
    figure: Figure
    outcome: Literal["pass", "fail", "not distinguishable", "not measured"]


def judge(budget: Budget, figures: dict[str, Figure]) -> list[Verdict]:
    """Compare every limit that is set with the figure of its name.

    A figure whose interval holds the limit is not distinguishable from it; an absent one is not measured.
    """
    given = budget.model_dump(exclude_none=True)
    absent = Figure.absent("", "nothing in this run obtains it")
    return [verdict_on(limit, allowed, figures.get(limit) or absent) for limit, allowed in given.items()]


def verdict_on(limit: str, allowed: float, figure: Figure) -> Verdict:
    """Compare one limit with its figure."""
    outcome: Literal["pass", "fail", "not distinguishable", "not measured"]
    if figure.value is None:
        outcome = "not measured"
    elif figure.low is not None and figure.high is not None and figure.low < allowed < figure.high:
        outcome = "not distinguishable"
    else:
        outcome = "pass" if figure.value <= allowed else "fail"
    return Verdict(limit, allowed, figure, outcome)
