"""Which of two models is faster here: both in one process, in turns, and that in several processes.

```
process 1   a b b a a b ...   one ratio of medians, of CPU times, of minima      ┐
process 2   b a a b b a ...   one ratio each; b is opened first this time        ├─▶ the median, and the interval that holds it
...                                                                              ┘    whatever the distribution (order statistics)
```
Where a model comes to lie in memory moves its times by a percent or two for as long as its process lives, and other work disturbs
some processes more than others: the spread over processes holds both, that within one of them neither.

On a quiet machine the median wall time decides, which is what a user waits for. Where other work disturbed it, the CPU time of one
thread decides, to which other work hardly adds, and with several threads the minimum.
"""

from collections.abc import Callable
from typing import Any

from .comparison import SMALLEST_DIFFERENCE, verdict_of
from .errors import DeviceError
from .launches.evidence import Evidence
from .launches.launcher import launch_number
from .launches.noise import disturbances
from .launches.settings import LaunchSettings, longest_s
from .launches.subject import Subject
from .machine import read_machine, refuse_emulation, warnings

LAUNCHES = 10
_FIGURES = {"latency-p50": "median", "cpu-time": "CPU time", "latency-min": "minimum"}


def compare(
    candidate: Subject,
    baseline: Subject,
    *,
    duration_s: float = 10.0,
    threads: int = 1,
    limit_s: float | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Time two models in turns; a speed-up above 1 says that the candidate is faster.

    Args:
        candidate: What the verdict is about.
        baseline: What it is held against.
        duration_s: Of the timed calls of both, in all processes together, in seconds.
        threads: Of the runtime.
        limit_s: After so many seconds a process is ended; None is ten minutes and ten times as long as it measures.
        say: Takes a line of what is going on.

    Raises:
        DeviceError: The two take different batches, the threads are out of range, or the runtime refuses a model.
        RuntimeMissing: A runtime is not installed, or has the wrong version.
        CheckFailed: The processor is emulated, or a model took its process along or too long.
    """
    before = read_machine()
    refuse_emulation(before)
    if candidate.batch != baseline.batch:
        raise DeviceError(
            f"{candidate.name} takes {candidate.batch} sample(s) a call, {baseline.name} takes {baseline.batch}: a ratio means nothing"
        )
    settings = LaunchSettings(
        duration_s=duration_s,
        launches=LAUNCHES,
        threads=threads,
        counter="none",
        limit_s=limit_s or longest_s(duration_s / LAUNCHES),
    )
    evidence = Evidence()
    for number in range(LAUNCHES):
        say(f"process {number + 1} of {LAUNCHES}")
        evidence.launches.append(launch_number({"candidate": candidate, "baseline": baseline}, settings, number))
    disturbed = disturbances(evidence.noises())
    speedups = {name: _speedup(evidence, name) for name in _FIGURES}
    models = {
        role: {
            **subject.to_dict(),
            "session": evidence.launches[0].result["models"][role]["session"],
            "figures_ms": {name: evidence.figure(name, role).to_dict() for name in _FIGURES},
        }
        for role, subject in (("candidate", candidate), ("baseline", baseline))
    }
    notes = warnings(before, threads)
    if disturbed:
        notes.append(f"while it measured, {'; '.join(disturbed)}")
    if threads == 1 and (note := disagreement(speedups)) is not None:
        notes.append(note)
    return {
        **models,
        "batch": candidate.batch,
        "comparison": {**decide(speedups, bool(disturbed), threads), "launches": LAUNCHES, "speedups": speedups},
        "warnings": notes,
        "before": before.to_dict(),
    }


def decide(speedups: dict[str, dict[str, Any]], disturbed: bool, threads: int) -> dict[str, Any]:
    """Return the verdict about the candidate, the figure that it is by, and why it is none where two figures contradict each other.

    Args:
        speedups: By figure, each with its `verdict`.
        disturbed: Whether other work disturbed the measurement.
        threads: Of the runtime; with one, CPU time and wall time mean the same.
    """
    by = "latency-p50"
    if disturbed:
        by = "cpu-time" if threads == 1 and speedups["cpu-time"]["speedup"] is not None else "latency-min"
    verdict, reason = speedups[by]["verdict"], None
    opposite = {"faster": "slower", "slower": "faster"}.get(verdict)
    for name, one in speedups.items():
        if one["verdict"] == opposite and (threads == 1 or name != "cpu-time"):
            reason = f"by the {_FIGURES[by]} it is {verdict}, by the {_FIGURES[name]} {opposite}"
            verdict = "not distinguishable"
            break
    return {"verdict": verdict, "by": by, "reason": reason}


def disagreement(speedups: dict[str, dict[str, Any]]) -> str | None:
    """Return what it means that wall time and CPU time of one thread give different ratios, None where they may be the same."""
    median, computing = speedups["latency-p50"], speedups["cpu-time"]
    if median["speedup"] is None or computing["speedup"] is None:
        return None
    room = 1 + SMALLEST_DIFFERENCE
    if median["low"] <= computing["high"] * room and computing["low"] <= median["high"] * room:
        return None
    return (
        f"the median says {median['speedup']:.2f} times as fast, the CPU time {computing['speedup']:.2f}: one of the models waits, "
        "for a core or for its file, rather than computes"
    )


def compare_text(found: dict[str, Any], names: dict[str, str]) -> str:
    """Return the lines for a person; `names` says what the two roles are called."""
    compared, machine = found["comparison"], found["before"]
    lines = [f"batch {found['batch']}, on {machine['board'] or machine['cpu_model'] or machine['architecture']}"]
    for role in ("candidate", "baseline"):
        one, session = found[role], found[role]["session"]
        times = ", ".join(
            f"{words} {one['figures_ms'][name]['value']:.4g} ms"
            for name, words in _FIGURES.items()
            if one["figures_ms"][name]["value"] is not None
        )
        where = f"{session['runtime']} {session['version']}, threads {session['threads']}"
        lines.append(f"  {names[role]} ({one['precision']}, {where}): {times}")
    for name, words in _FIGURES.items():
        one = compared["speedups"][name]
        if one["speedup"] is None:
            lines.append(f"  by the {words}: {one['absent']}")
        else:
            ratio = f"{one['speedup']:.3f} times as fast ({one['low']:.3f} to {one['high']:.3f}, 95 % interval)"
            lines.append(f"  by the {words}: {ratio}, {one['verdict']}")
    because = f": {compared['reason']}" if compared["reason"] else f", by the {_FIGURES[compared['by']]}"
    lines.append(f"{names['candidate']} is {compared['verdict']}{because}")
    return "\n".join(lines + [f"warning: {note}" for note in found["warnings"]])


def _speedup(evidence: Evidence, name: str) -> dict[str, Any]:
    """Return the baseline's figure divided by the candidate's, with its 95 % interval."""
    ratio = evidence.ratio(name)
    if ratio.value is None or not ratio.low or not ratio.high:
        return {"speedup": None, "low": None, "high": None, "verdict": "not distinguishable", "absent": ratio.reason}
    low, high = 1 / ratio.high, 1 / ratio.low
    return {
        "speedup": 1 / ratio.value,
        "low": low,
        "high": high,
        "verdict": verdict_of(low, high, SMALLEST_DIFFERENCE),
        "absent": None,
    }
