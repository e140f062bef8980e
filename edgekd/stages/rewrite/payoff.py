"""Does a rewrite pay? Both files timed in interleaved rounds, where this machine is the target.

One that is faster does, one that is slower does not. One that cannot be told from before pays where the file gets clearly
smaller, or where it saves something that neither time nor bytes of the file show.
"""

from pathlib import Path
from typing import Any

from edgekd import host
from edgekd.context import Context
from edgekd.device.runtimes import usable_here
from edgekd.models.signature import Signature
from edgekd.stages.rewrite.rewrite import Rewrite

CLEARLY_SMALLER = 0.05  # share of the file that goes
_ROUNDS = 20


def why_not_timed(context: Context) -> str | None:
    """Return why nothing can be timed here that would count for the target, or None where it can."""
    if not host.is_target(context.target, host.this_machine()):
        return f"this machine is no {context.target.title}"
    if not usable_here(context.runtime_name):
        return f"{context.runtime_name} does not run here"
    return None


def timed(before: Path, after: Path, rewrite: Rewrite, signature: Signature, context: Context) -> dict[str, Any]:
    """Return how the file after a rewrite compares with the one before it: verdict, speed-up and its 95 % interval, and sizes."""
    feeds = rewrite.timed_inputs(signature)
    session = host.time_files(
        {"before": before, "after": after},
        context.runtime_name,
        signature,
        context.runtime.threads,
        rounds=_ROUNDS,
        feeds=None if feeds is None else dict(zip(("before", "after"), feeds, strict=True)),
    )
    found = session.comparison("before", "after")
    ends = (found.speedup_low, found.speedup_high)
    return {
        "verdict": found.verdict,
        "speedup": round(found.speedup, 4),
        "interval": None if ends[0] is None or ends[1] is None else [round(ends[0], 4), round(ends[1], 4)],
        "p50_ms": [round(found.baseline.p50_ms, 5), round(found.candidate.p50_ms, 5)],
        "file_bytes": [before.stat().st_size, after.stat().st_size],
        "on": host.describe(host.this_machine()),
    }


def reason_to_keep(latency: dict[str, Any], saves: str | None) -> str | None:
    """Return why a rewrite with these figures pays, or None where it does not.

    Args:
        latency: as `timed` returns it.
        saves: of the rewrite.
    """
    if latency["verdict"] == "faster":
        return "it is faster"
    if latency["verdict"] == "slower":
        return None
    if smaller_by(latency) >= CLEARLY_SMALLER:
        return f"it is not faster, but the file gets {smaller_by(latency):.0%} smaller"
    return f"it is not faster, but saves {saves}" if saves else None


def smaller_by(latency: dict[str, Any]) -> float:
    """Return by which share the file got smaller; below 0 it grew."""
    before, after = latency["file_bytes"]
    return float(1 - after / before)
