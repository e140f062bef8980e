"""What happened in a training."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """What happened: the mean of the total and of every term, an epoch each; what teachers cost; why it ended.

    `zero_ratio` is the share of ternary weights that are zero at the end, a layer each.
    """

    loss: list[float] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    teachers: dict[str, Any] = field(default_factory=dict)
    zero_ratio: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None

    def to_notes(self) -> dict[str, Any]:
        """Return plain JSON for a stage's notes."""
        notes: dict[str, Any] = {
            "loss": [round(loss, 6) for loss in self.loss],
            "terms": [{name: round(value, 6) for name, value in term.items()} for term in self.terms],
            "phases": self.phases,
        }
        if self.validation:
            notes["validation"] = [round(score, 4) for score in self.validation]
        if self.teachers:
            # counts would tell a training that was killed from one that was not
            notes["teachers"] = {name: {"share": one["share"]} for name, one in self.teachers.items()}
        if self.zero_ratio:
            notes["zero_ratio"] = self.zero_ratio
        if self.stopped:
            notes["stopped"] = self.stopped
        return notes
