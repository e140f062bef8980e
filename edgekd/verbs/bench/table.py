"""What the cells came to: means over the seeds, differences from the recipe's order, and which are worth choosing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekd.device.comparison import SMALLEST_DIFFERENCE
from edgekd.metrics import Metric
from edgekd.verbs.bench.cells import BASELINE, Cell
from edgekd.verbs.statistics import Compared, Mean, compared, geometric_mean_of, mean_of

SCHEMA = 1


@dataclass(frozen=True)
class Measurement:
    """One file of one seed: score, MB, latency in ms, and how many times as fast as the baseline's it is.

    The ms are the baseline's p50 divided by this ratio.
    """

    score: float
    megabytes: float
    milliseconds: float
    speedup: float


@dataclass(frozen=True)
class Row:
    """A cell with its measurements, a seed each, or the problem why there are none.

    `against` compares its scores with those of the reference. `front`: no other row is, in its means, at least as good in
    score, size and latency and better in one; sizes and latencies that differ by less than 2 % are equal.
    """

    cell: Cell
    measured: tuple[Measurement, ...]
    problem: str | None = None
    against: Compared | None = None
    front: bool = False

    @property
    def score(self) -> Mean:
        """Return the mean score; what no seed changes has no interval."""
        scores = [one.score for one in self.measured]
        return mean_of(scores if self.cell.trained else scores[:1])

    @property
    def megabytes(self) -> float:
        """Return the mean size."""
        return mean_of([one.megabytes for one in self.measured]).mean

    @property
    def milliseconds(self) -> Mean:
        """Return the geometric mean of p50."""
        return geometric_mean_of([one.milliseconds for one in self.measured])

    @property
    def speedup(self) -> Mean:
        """Return the geometric mean of how many times as fast as the baseline it is."""
        return geometric_mean_of([one.speedup for one in self.measured])

    @property
    def score_per_ms(self) -> float:
        """Return the mean of the score per ms of p50."""
        return mean_of([one.score / one.milliseconds for one in self.measured]).mean

    @property
    def score_per_mb(self) -> float:
        """Return the mean of the score per MB."""
        return mean_of([one.score / one.megabytes for one in self.measured]).mean

    def to_json(self, *, ratios: bool) -> dict[str, Any]:
        """Return plain JSON; `ratios` says whether a score per ms or MB means something."""
        content: dict[str, Any] = {
            "name": self.cell.name,
            "stages": [stage.model_dump(mode="json") for stage in self.cell.stages],
            "trained": self.cell.trained,
            "problem": self.problem,
        }
        if not self.measured:
            return content
        content |= {
            "score": {**asdict(self.score), "seeds": [one.score for one in self.measured]},
            "size_mb": {"mean": self.megabytes, "seeds": [one.megabytes for one in self.measured]},
            "latency_p50_ms": {**asdict(self.milliseconds), "seeds": [one.milliseconds for one in self.measured]},
            "speedup": {**asdict(self.speedup), "seeds": [one.speedup for one in self.measured]},
        }
        if ratios:
            content |= {"score_per_ms": self.score_per_ms, "score_per_mb": self.score_per_mb}
        content["difference"] = None if self.against is None else asdict(self.against.difference)
        content["p_holm"] = None if self.against is None else self.against.corrected
        return {**content, "pareto_front": self.front}


@dataclass(frozen=True)
class Table:
    """All cells.

    `latency_on` says what latency was measured on, `on_target` whether that is the target itself, `disturbances` what other work
    did to the machine meanwhile.
    """

    model: str
    target: str
    data: str
    samples: int
    metric: Metric
    epochs: Mapping[str, int]
    seeds: tuple[int, ...]
    reference: str
    latency_on: str
    on_target: bool
    disturbances: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def ratios(self) -> bool:
        """Return whether a score per ms or MB means something: more of it is better."""
        return self.metric.higher_is_better

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without what made it (host, software)."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "target": self.target,
            "data": {"origin": self.data, "evaluation": self.samples},
            "metric": {
                "name": self.metric.name,
                "unit": self.metric.unit,
                "higher_is_better": self.metric.higher_is_better,
            },
            "epochs": dict(self.epochs),
            "seeds": list(self.seeds),
            "reference": self.reference,
            "latency": {
                "measured_on": self.latency_on,
                "on_target": self.on_target,
                "disturbances": list(self.disturbances),
            },
            "cells": [row.to_json(ratios=self.ratios) for row in self.rows],
        }


def make_rows(
    cells: Sequence[Cell],
    measured: Mapping[str, Sequence[Measurement]],
    problems: Mapping[str, str],
    reference: str,
    metric: Metric,
) -> tuple[Row, ...]:
    """Return the rows; with one seed nothing is compared."""
    scores = {name: [one.score for one in found] for name, found in measured.items() if name not in problems}
    others = {name: found for name, found in scores.items() if name != reference and len(found) > 1}
    against = compared(others, scores[reference], higher_is_better=metric.higher_is_better)
    rows = [
        Row(cell, () if cell.name in problems else tuple(measured[cell.name]), problems.get(cell.name))
        for cell in cells
    ]
    front = _front([row for row in rows if row.measured], metric)
    return tuple(
        Row(row.cell, row.measured, row.problem, against.get(row.cell.name), row.cell.name in front) for row in rows
    )


def reference_of(own: str, measured: Mapping[str, Any], problems: Mapping[str, str]) -> str:
    """Return the cell that the others are compared with: the recipe's own order, else the baseline."""
    return own if own in measured and own not in problems else BASELINE


def _front(rows: Sequence[Row], metric: Metric) -> set[str]:
    """Return the names of the rows that no other one dominates, by their means."""
    return {row.cell.name for row in rows if not any(_dominates(other, row, metric) for other in rows)}


def _dominates(one: Row, other: Row, metric: Metric) -> bool:
    """Return whether one row is at least as good as another in score, size and latency, and better in one."""
    gain = metric.drop(one.score.mean, other.score.mean)  # how much worse the other one is
    ratios = (other.megabytes / one.megabytes, other.milliseconds.mean / one.milliseconds.mean)
    alike = 1 + SMALLEST_DIFFERENCE
    return gain >= 0 and min(ratios) >= 1 / alike and (gain > 0 or max(ratios) > alike)
