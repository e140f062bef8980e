"""The checks as rows of text: what the terminal, the job summary and the other outputs say of each."""

from typing import Any

from ..figures import KINDS
from ..quantities import shown

HEADS = ("figure", "measured", "95 % interval", "baseline", "change", "allowed", "outcome")


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each check, in the order of `HEADS`."""
    return [_row(check) for check in result["checks"]]


def headline(result: dict[str, Any]) -> str:
    """Return what was gated, and where."""
    model, session, machine = result["model"], result["session"], result["machine"]
    where = machine["board"] or machine["cpu_model"] or machine["architecture"]
    runtime = f"{session['runtime']} {session['version']}, threads {session['threads']}, " if session else ""
    name = "".join(one if one.isprintable() else "?" for one in model["name"])  # a line break could begin an annotation
    return f"{name} ({model['precision']}) on {where}, {runtime}batch {model['batch']}"


def notes(result: dict[str, Any]) -> list[str]:
    """Return what belongs below the table: why checks are no pass, which baseline it was, and what to know."""
    reasons: dict[str, list[str]] = {}
    for check in result["checks"]:
        reason = check["informs"] if check["outcome"] in ("pass", "fail") and check["informs"] else check["reason"]
        if reason:
            reasons.setdefault(reason, []).append(check["figure"])
    if result["failure"]:
        reasons.pop(result["failure"], None)
    found = [f"not measured: {result['failure']}"] if result["failure"] else []
    found += [f"{', '.join(figures)}: {reason}" for reason, figures in reasons.items()]
    baseline = result["baseline"]
    if baseline is not None:
        of = baseline["model"] or {}
        sha256 = f", model {of['sha256'][:12]}" if of else ""
        when = f", updated {baseline['updated_utc']}" if baseline.get("updated_utc") else ""
        how = "timed in turns with" if baseline["kind"] == "artifact" else "stored in"
        found.append(f"baseline: {how} {baseline['file']}{sha256}{when}")
    if not result["sharing"]["shared"]:
        found.append(f"wall percentiles gate, the machine is dedicated: {result['sharing']['reason']}")
    if len(result["rounds"]) > 1:
        found.append(f"measured {len(result['rounds'])} times: what does not pass is measured again")
    found += [f"disturbed: {note}" for note in result["disturbances"]]
    return found + [f"warning: {note}" for note in result["warnings"]]


def verdict(result: dict[str, Any]) -> str:
    """Return the last line: how it ended, with the exit code."""
    gating = [check for check in result["checks"] if check["gates"]]
    passed = sum(check["outcome"] == "pass" for check in gating)
    of = f"{passed} of {len(gating)} checks passed"
    return {0: f"PASS: {of}", 1: f"FAIL: {of}"}.get(result["exit_code"], f"UNDECIDED ({result['outcome']}): {of}")


def summary(check: dict[str, Any]) -> str:
    """Return one check in one line."""
    figure, measured, interval, baseline, change, allowed, outcome = _row(check)
    value = f"{measured} ({interval})" if interval else measured
    against = f", {change} from {baseline}" if change else ""
    reason = f": {check['reason']}" if check["reason"] else ""
    return f"{figure} {outcome}: {value}{against}, allowed {allowed}{reason}"


def _row(check: dict[str, Any]) -> tuple[str, ...]:
    dimension = KINDS[check["figure"]].dimension
    value, baseline, ratio = check["value"], check["baseline"], check["ratio"]
    measured = "absent" if value["value"] is None else shown(value["value"], dimension)
    if ratio is None:
        interval = _interval(value, lambda number: shown(number, dimension))
        before, change, allowed = "", "", f"<= {shown(check['limit'], dimension)}"
    else:
        interval = _interval(ratio, _percent)
        before = "absent" if baseline["value"] is None else shown(baseline["value"], dimension)
        change = "" if ratio["value"] is None else _percent(ratio["value"])
        allowed = f"<= +{check['threshold_percent']:g} %"
    outcome = check["outcome"] if check["gates"] else f"({check['outcome']})"
    return check["figure"], measured, interval, before, change, allowed, outcome


def _interval(figure: dict[str, Any], text: Any) -> str:
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{text(low)} to {text(high)}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1) + 0.0:+.1f} %"
