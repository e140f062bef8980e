"""Hold a model against a budget and a baseline; what does not pass is measured again before it fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import CheckFailed, DeviceError, RuntimeMissing
from ..files import check_place_of
from ..launches.figures import PERCENTILES, Figure
from ..launches.launcher import launch_number
from ..launches.noise import disturbances
from ..launches.subject import Subject
from ..machine import read_machine, warnings
from ..runtimes import check_known
from .accuracy import accuracy_drop
from .baseline import Entry, find_entry, key_of, read_baseline, update
from .budget import Budget
from .case import Case, Check, size_of
from .checks import ABSENT, PASS
from .container import container
from .figures import KINDS
from .result import result_of
from .rounds import GateSettings, measure_round, why_no_energy
from .sharing import Sharing, sharing_of


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
        DeviceError: There is nothing to check, thresholds have no baseline, or the baseline is not comparable.
        RuntimeMissing: The runtime is not installed, or has the wrong version.
    """
    settings = settings or GateSettings()
    compared = older is not None or stored is not None
    if budget.thresholds and not compared:
        raise DeviceError(
            f"[regression] of the budget ({', '.join(budget.thresholds)}) says how much worse than a baseline it may be: "
            "give --baseline (the older artifact, or a file of `baseline update`), or take the section out"
        )
    if not budget.limits and not compared:
        raise DeviceError("nothing to check: give --budget (a file, or latency-p95=20ms) or --baseline")
    if older is not None and older.batch != subject.batch:
        raise DeviceError(f"the baseline takes {older.batch} sample(s) a call, this model {subject.batch}: use --batch")
    for one in (subject, *([] if older is None else [older])):
        check_known(one.runtime)
    entries = None if stored is None else read_baseline(stored)
    machine = read_machine()
    sharing = sharing_of(machine, settings.shared)
    checks = _checks(budget, sharing, compared)
    energy = any(check.figure == "energy" for check in checks)
    fixed = {"size": size_of(subject), "accuracy-drop": accuracy_drop(subject, report)}
    if energy and (reason := why_no_energy(settings)) is not None:
        fixed["energy"], energy = Figure(None, reason=reason), False
    case = Case(subject, settings, older, stored, fixed, energy)
    if any(KINDS[check.figure].launched and check.figure not in fixed for check in checks):
        try:
            _measure(case, checks, entries, say)
        except CheckFailed as failure:  # what needs no launch is still judged
            case.failure = str(failure)
            case.rounds.clear()
    verdicts = {check: case.verdict(check) for check in checks}
    notes = warnings(machine) + _asked_for(budget, sharing)
    return result_of(case, checks, verdicts, sharing, machine.to_dict(), notes)


def update_baseline(subject: Subject, path: Path, settings: GateSettings | None = None) -> dict[str, Any]:
    """Measure a model and write its figures into a baseline file; return the entry.

    Raises:
        DeviceError: The file cannot be written, or holds something else.
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        CheckFailed: The model could not be measured.
    """
    settings = settings or GateSettings()
    check_place_of(path)  # before it is measured
    if path.exists():
        read_baseline(path)
    evidence = measure_round({"candidate": subject}, settings, why_no_energy(settings) is None)
    figures = {name: evidence.figure(name) for name, kind in KINDS.items() if kind.launched} | {
        "size": size_of(subject)
    }
    key = key_of(subject, evidence.launches[0].result, settings.threads, container())
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
        shared = name in PERCENTILES and sharing.shared
        informs = f"informs only, the machine is shared: {sharing.reason}" if shared else None
        checks.append(Check(name, threshold_percent=threshold, named=name in budget.thresholds, informs=informs))
    return checks


def _asked_for(budget: Budget, sharing: Sharing) -> list[str]:
    """Return what to know of limits on percentiles where others share the machine: they gate, for somebody wrote them."""
    names = [name for name in budget.limits if name in PERCENTILES and sharing.shared]
    if not names:
        return []
    return [
        f"a limit on {', '.join(names)} gates, as the budget asks, though the machine is shared ({sharing.reason}): "
        "latency-min, cpu-time and instructions depend less on other work"
    ]


def _measure(case: Case, checks: list[Check], entries: list[Entry] | None, say: Callable[[str], None]) -> None:
    """Measure round after round, until every check that gates is a pass, cannot be measured, or the rounds are used up."""
    subjects = {"candidate": case.subject} | ({} if case.older is None else {"baseline": case.older})
    if entries is not None and case.stored is not None:
        brief = replace(case.settings, duration_s=0.1, launches=1, counter="none")
        with _refusal_as_failure():
            probe = launch_number(subjects, brief, 0)
        key = key_of(case.subject, probe.result, case.settings.threads, container())
        case.entry = find_entry(entries, key, str(case.stored))
    while True:
        with _refusal_as_failure():
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
def _refusal_as_failure() -> Iterator[None]:
    """Raise what a runtime refuses as a `CheckFailed`: to the gate it is a figure that could not be obtained."""
    try:
        yield
    except RuntimeMissing:
        raise
    except DeviceError as error:
        raise CheckFailed(str(error)) from error
