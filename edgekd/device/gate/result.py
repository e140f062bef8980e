"""The result of a gate, as docs/gate.md and docs/gate.schema.json describe it."""

from typing import Any

from ..errors import CheckFailed
from ..launches.evidence import Evidence
from ..launches.noise import disturbances
from .case import Case, Check, why_informs
from .checks import ABSENT, FAIL, PASS, Judged
from .container import container
from .figures import KINDS
from .quantities import unit_of
from .sharing import Sharing

SCHEMA = 1
_COMPUTING = ("time", "count")  # the dimensions of which at least one figure must be compared with a baseline


def result_of(
    case: Case,
    checks: list[Check],
    verdicts: dict[Check, Judged],
    sharing: Sharing,
    machine: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """Return the result as plain JSON values, the exit code included.

    Args:
        case: With all its rounds.
        checks: In the order in which they are shown.
        verdicts: Of each check.
        sharing: Whether the machine is shared.
        machine: Its state before anything was measured.
        notes: What makes its figures less trustworthy.
    """
    together = case.together()
    gating = [check for check in checks if why_informs(check, verdicts) is None]
    outcomes = {verdicts[check].outcome for check in gating}
    compared = any(check.threshold_percent and KINDS[check.figure].dimension in _COMPUTING for check in gating)
    failure = case.failure
    if failure is None and case.compared and not compared:
        failure = "neither a time nor instructions could be compared with the baseline"
    if failure is not None:
        outcomes.add(ABSENT)
    launches = together.launches
    return {
        "outcome": FAIL if FAIL in outcomes else next(iter(sorted(outcomes - {PASS})), PASS),
        "exit_code": 1 if FAIL in outcomes else CheckFailed.exit_code if outcomes - {PASS} else 0,
        "failure": failure,
        "model": case.subject.to_dict(),
        "baseline": _baseline(case),
        "session": launches[0].result["models"]["candidate"]["session"] if launches else None,
        "sharing": {"shared": sharing.shared, "reason": sharing.reason},
        "checks": [_described(case, check, verdicts, together) for check in checks],
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


def _described(case: Case, check: Check, verdicts: dict[Check, Judged], together: Evidence) -> dict[str, Any]:
    verdict, informs = verdicts[check], why_informs(check, verdicts)
    regression = check.threshold_percent is not None
    deciding = together if verdict.round is None else case.rounds[verdict.round]
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
        "value": case.figure(check.figure, deciding).to_dict() if regression else verdict.figure.to_dict(),
        "baseline": case.figure(check.figure, deciding, "baseline").to_dict() if regression else None,
        "ratio": verdict.figure.to_dict() if regression else None,
        "rounds": [case.judge(check, evidence).to_dict() for evidence in case.rounds],
    }


def _baseline(case: Case) -> dict[str, Any] | None:
    if case.older is not None:
        return {"kind": "artifact", "file": str(case.older.folder or case.older.file), "model": case.older.to_dict()}
    if case.stored is None:
        return None
    stored = {"kind": "stored", "file": str(case.stored), "model": None, "updated_utc": None, "key": None}
    return stored if case.entry is None else stored | {k: v for k, v in case.entry.to_dict().items() if k != "figures"}


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "machine"}
