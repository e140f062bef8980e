"""Hold a model against a budget and a baseline; what is no pass is measured again before it fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import CheckFailed, DeviceError
from ..machine import read_machine, warnings
from ..runtimes import known_runtimes
from .accuracy import accuracy_drop
from .baseline import Entry, find_entry, key_of, read_baseline, update
from .budget import Budget
from .checks import ABSENT, FAIL, PASS, Judged, decide, judge_limit, judge_ratio
from .container import container
from .evidence import Evidence, ratio_of
from .figures import KINDS, Figure
from .noise import disturbances
from .quantities import unit_of
from .rounds import GateSettings, launch, measure_round, why_no_energy
from .sharing import Sharing, sharing_of
from .subject import Subject

SCHEMA = 1
COMPUTING = ("time", "count")  # the dimensions of which at least one figure must be compared


@dataclass(frozen=True)
class Check:
    """A figure and what it must not exceed: a `limit` in its own unit, or a `threshold_percent` above the baseline.

    `named` ones are in the budget; of the others one that is not measured does not count. `informs` says why a check does not
    gate.
    """

    figure: str
    limit: float | None = None
    threshold_percent: float | None = None
    named: bool = True
    informs: str | None = None


@dataclass
class _Case:
    """Everything that is held against each other."""

    subject: Subject
    settings: GateSettings
    older: Subject | None
    stored: Path | None
    fixed: dict[str, Figure]  # figures that need no launch
    energy: bool
    entry: Entry | None = None
    rounds: list[Evidence] = field(default_factory=list)
    failure: str | None = None

    def figure(self, name: str, evidence: Evidence, role: str = "candidate") -> Figure:
        if role == "baseline" and self.entry is not None:
            return self.entry.figures.get(name) or Figure(None, reason=f"the baseline holds no {name}")
        if role == "baseline" and self.older is not None and name == "size":
            return _size(self.older)
        if name in self.fixed:
            return self.fixed[name]
        return Figure(None, reason=self.failure) if self.failure else evidence.figure(name, role)

    def judge(self, check: Check, evidence: Evidence) -> Judged:
        wall = KINDS[check.figure].quantile is not None
        disturbed = disturbances(evidence.noises()) if wall else []
        figure = self.figure(check.figure, evidence)
        if check.limit is not None:
            return judge_limit(figure, check.limit, disturbed)
        assert check.threshold_percent is not None
        if self.failure or self.entry is not None or check.figure in self.fixed:
            ratio = ratio_of(figure, self.figure(check.figure, evidence, "baseline"))
        else:
            ratio = evidence.ratio(check.figure)
        return judge_ratio(ratio, check.threshold_percent, disturbed)

    def verdict(self, check: Check) -> Judged:
        together = sum(self.rounds, Evidence())
        return decide([self.judge(check, one) for one in self.rounds], self.judge(check, together))


def gate(
    subject: Subject,
    budget: Budget,
    settings: GateSettings | None = None,
    *,
    older: Subject | None = None,
    stored: Path | None = None,
    report: Path | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Measure a model and judge every limit and, against a baseline, every regression.

    Args:
        subject: The candidate.
        budget: Limits, and thresholds of a regression.
        settings: How it is measured.
        older: The baseline itself; both are timed in turns in the same processes.
        stored: The baseline's figures, a file of `edgekd baseline update`.
        report: The run's `report.json`, which holds the accuracy.
        say: Takes a line of what is going on.

    Returns:
        The result as docs/gate.md describes it, `exit_code` included.

    Raises:
        DeviceError: There is nothing to check, or the baseline is not comparable.
        RuntimeMissing: The runtime is not installed, or has the wrong version.
    """
    settings = settings or GateSettings()
    compared = older is not None or stored is not None
    if not budget.limits and not compared:
        raise DeviceError("nothing to check: give --budget (a file, or latency-p95=20ms) or --baseline")
    if older is not None and older.batch != subject.batch:
        raise DeviceError(f"the baseline takes {older.batch} sample(s) a call, this model {subject.batch}: use --batch")
    for one in (subject, *([] if older is None else [older])):
        if one.runtime not in known_runtimes():
            raise DeviceError(f"unknown runtime {one.runtime!r}; known: {', '.join(known_runtimes())}")
    entries = None if stored is None else read_baseline(stored)
    machine = read_machine()
    sharing = sharing_of(machine, settings.shared)
    checks = _checks(budget, sharing, compared)
    energy = any(check.figure == "energy" for check in checks)
    fixed = {"size": _size(subject), "accuracy-drop": accuracy_drop(subject, report)}
    if energy and (reason := why_no_energy(settings)) is not None:
        fixed["energy"], energy = Figure(None, reason=reason), False
    case = _Case(subject, settings, older, stored, fixed, energy)
    if any(KINDS[check.figure].launched and check.figure not in fixed for check in checks):
        with _failures_of(case):
            _measure(case, checks, entries, say)
    verdicts = {check: case.verdict(check) for check in checks}
    return _result(case, checks, verdicts, sharing, machine.to_dict(), warnings(machine))


def update_baseline(subject: Subject, path: Path, settings: GateSettings | None = None) -> dict[str, Any]:
    """Measure a model and write its figures into a baseline file; return the entry.

    Raises:
        DeviceError: The file cannot be written, or holds something else.
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        CheckFailed: The model could not be measured.
    """
    settings = settings or GateSettings()
    if path.exists():
        read_baseline(path)  # before it is measured
    evidence = measure_round({"candidate": subject}, settings, why_no_energy(settings) is None)
    figures = {name: evidence.figure(name) for name, kind in KINDS.items() if kind.launched} | {"size": _size(subject)}
    key = key_of(subject.to_dict(), evidence.launches[0].result, settings.threads, container())
    entry = update(path, key, subject.to_dict(), {name: one for name, one in figures.items() if one.value is not None})
    return {
        "file": str(path),
        **entry.to_dict(),
        "noise": evidence.noises(),
        "warnings": disturbances(evidence.noises()),
    }


def _checks(budget: Budget, sharing: Sharing, compared: bool) -> list[Check]:
    """Return the limits, then the regressions."""
    checks = [Check(name, limit=limit) for name, limit in budget.limits.items()]
    for name, kind in KINDS.items():
        threshold = budget.thresholds.get(name, kind.threshold_percent)
        if not compared or threshold is None:
            continue
        shared = kind.quantile is not None and sharing.shared
        informs = f"informs only, the machine is shared: {sharing.reason}" if shared else None
        checks.append(Check(name, threshold_percent=threshold, named=name in budget.thresholds, informs=informs))
    return checks


def _measure(case: _Case, checks: list[Check], entries: list[Entry] | None, say: Callable[[str], None]) -> None:
    """Measure round after round, until every check that gates is a pass, cannot be measured, or the rounds are used up."""
    subjects = {"candidate": case.subject} | ({} if case.older is None else {"baseline": case.older})
    if entries is not None and case.stored is not None:
        probe = launch(subjects, replace(case.settings, duration_s=0.1, launches=1, counter="none"), 0)
        key = key_of(case.subject.to_dict(), probe.result, case.settings.threads, container())
        case.entry = find_entry(entries, key, str(case.stored))
    while True:
        case.rounds.append(measure_round(subjects, case.settings, case.energy, len(case.rounds)))
        open_ones = [
            f"{check.figure} {outcome}"
            for check in checks
            if check.informs is None and KINDS[check.figure].launched
            if (outcome := case.verdict(check).outcome) not in (PASS, ABSENT)
        ]
        if not open_ones or len(case.rounds) > case.settings.confirm:
            return
        say(f"measured again, in fresh processes: {', '.join(open_ones)}")


@contextmanager
def _failures_of(case: _Case) -> Iterator[None]:
    """Keep why a model could not be measured: what was asked for besides is still judged."""
    try:
        yield
    except CheckFailed as failure:
        case.failure = str(failure)
        case.rounds.clear()


def _size(subject: Subject) -> Figure:
    return Figure(float(subject.bytes), how="counted")


def _gates(check: Check, verdict: Judged) -> bool:
    return check.informs is None and (check.named or verdict.outcome != ABSENT)


def _result(
    case: _Case,
    checks: list[Check],
    verdicts: dict[Check, Judged],
    sharing: Sharing,
    machine: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    together = sum(case.rounds, Evidence())
    gating = [(check, verdicts[check]) for check in checks if _gates(check, verdicts[check])]
    outcomes = {verdict.outcome for _, verdict in gating}
    compared = case.older is not None or case.stored is not None
    decisive = [one for one, _ in gating if one.threshold_percent and KINDS[one.figure].dimension in COMPUTING]
    if compared and not decisive:
        outcomes.add(ABSENT)
        notes = [*notes, "neither a time nor instructions could be compared with the baseline"]
    launches = together.launches
    return {
        "outcome": FAIL if FAIL in outcomes else next(iter(sorted(outcomes - {PASS})), PASS),
        "exit_code": 1 if FAIL in outcomes else CheckFailed.exit_code if outcomes - {PASS} else 0,
        "failure": case.failure,
        "model": case.subject.to_dict(),
        "baseline": _baseline(case),
        "session": launches[0].result["models"]["candidate"]["session"] if launches else None,
        "sharing": {"shared": sharing.shared, "reason": sharing.reason},
        "checks": [_described(case, check, verdicts[check], together) for check in checks],
        "figures": {
            name: {"unit": unit_of(kind.dimension), **case.figure(name, together).to_dict()}
            for name, kind in KINDS.items()
        },
        "container": container(),
        "machine": machine,
        "rounds": [
            {
                "launches": [_kept(one.result) for one in evidence.launches],
                "energy": [_kept(one.result) for one in evidence.energy],
            }
            for evidence in case.rounds
        ],
        "disturbances": disturbances(together.noises()),
        "warnings": notes,
    }


def _described(case: _Case, check: Check, verdict: Judged, together: Evidence) -> dict[str, Any]:
    regression = check.threshold_percent is not None
    informs = check.informs if check.informs or _gates(check, verdict) else "informs only: the budget does not name it"
    return {
        "figure": check.figure,
        "check": "regression" if regression else "budget",
        "unit": unit_of(KINDS[check.figure].dimension),
        "limit": check.limit,
        "threshold_percent": check.threshold_percent,
        "gates": informs is None,
        "informs": informs,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "value": case.figure(check.figure, together).to_dict() if regression else verdict.figure.to_dict(),
        "baseline": case.figure(check.figure, together, "baseline").to_dict() if regression else None,
        "ratio": verdict.figure.to_dict() if regression else None,
        "rounds": [case.judge(check, evidence).to_dict() for evidence in case.rounds],
    }


def _baseline(case: _Case) -> dict[str, Any] | None:
    if case.older is not None:
        return {"kind": "artifact", "file": str(case.older.folder or case.older.file), "model": case.older.to_dict()}
    if case.stored is None:
        return None
    stored = {"kind": "stored", "file": str(case.stored), "model": None, "updated_utc": None, "key": None}
    return stored if case.entry is None else stored | {k: v for k, v in case.entry.to_dict().items() if k != "figures"}


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "machine"}
