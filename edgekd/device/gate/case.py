"""A case: a model, what it is held against, and the evidence of the rounds so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..launches.evidence import Evidence, ratio_of
from ..launches.figures import PERCENTILES, Figure
from ..launches.noise import disturbances
from ..launches.subject import Subject
from .baseline import Entry
from .checks import ABSENT, LONGER, NOISY, PASS, Judged, decide, judge_limit, judge_ratio
from .rounds import GateSettings


@dataclass(frozen=True)
class Check:
    """A figure and what it must not exceed: a `limit` in its own unit, or a `threshold_percent` above the baseline.

    `named` ones are in the budget. `informs` says why a check does not gate, whatever it gives.
    """

    figure: str
    limit: float | None = None
    threshold_percent: float | None = None
    named: bool = True
    informs: str | None = None


@dataclass
class Case:
    """What is held against what, and what was measured so far.

    The baseline is `older`, the artifact itself, or `stored`, a file, of which `entry` is the one that fits. `fixed` figures need
    no launch. `failure` says why the model could not be run.
    """

    subject: Subject
    settings: GateSettings
    older: Subject | None
    stored: Path | None
    fixed: dict[str, Figure]
    energy: bool
    entry: Entry | None = None
    rounds: list[Evidence] = field(default_factory=list)
    failure: str | None = None

    @property
    def compared(self) -> bool:
        """Return whether there is a baseline."""
        return self.older is not None or self.stored is not None

    def figure(self, name: str, evidence: Evidence, role: str = "candidate") -> Figure:
        """Return a figure of the candidate or of the baseline."""
        if role == "candidate" and name in self.fixed:
            return self.fixed[name]
        if role == "baseline" and self.entry is not None:
            return self.entry.figures.get(name) or Figure(None, reason=f"the baseline holds no {name}")
        if role == "baseline" and self.older is not None and name == "size":
            return size_of(self.older)
        return Figure(None, reason=self.failure) if self.failure else evidence.figure(name, role)

    def judge(self, check: Check, evidence: Evidence) -> Judged:
        """Return what some of the evidence says about a check."""
        figure = self.figure(check.figure, evidence)
        wall = check.figure in PERCENTILES
        cpu_then_and_now = check.figure == "cpu-time" and check.limit is None and self.stored is not None
        disturbed = disturbances(evidence.noises()) if wall or cpu_then_and_now else []
        if check.limit is not None:
            return judge_limit(figure, check.limit, disturbed)
        assert check.threshold_percent is not None
        if self.failure or self.entry is not None or check.figure in self.fixed:
            ratio = ratio_of(figure, self.figure(check.figure, evidence, "baseline"))
        else:
            ratio = evidence.ratio(check.figure)
        advice = (
            LONGER if self.stored is None else f"{LONGER}, or give the older artifact as --baseline: both run in turns"
        )
        return judge_ratio(ratio, check.threshold_percent, disturbed, advice)

    def together(self) -> Evidence:
        """Return the evidence of all rounds."""
        return sum(self.rounds, Evidence())

    def verdict(self, check: Check) -> Judged:
        """Return what all rounds say about a check."""
        return decide([self.judge(check, one) for one in self.rounds], self.judge(check, self.together()))


def size_of(subject: Subject) -> Figure:
    """Return the size of a model's files."""
    return Figure(float(subject.bytes), how="counted")


def why_informs(check: Check, verdicts: Mapping[Check, Judged]) -> str | None:
    """Return why a check only informs, or None where it decides.

    One that the budget does not name needs a figure. CPU time moves with what else the processor does, by 15 % and more: where
    that leaves it undecided, the fastest call decides, which hardly moves.
    """
    if check.named or check.informs is not None:
        return check.informs
    if verdicts[check].outcome == ABSENT:
        return "informs only: the budget does not name it"
    passed = [one.figure for one, verdict in verdicts.items() if one.threshold_percent and verdict.outcome == PASS]
    if check.figure == "cpu-time" and verdicts[check].outcome == NOISY and "latency-min" in passed:
        return "informs only: too noisy to tell, and latency-min passes"
    return None
