"""Does a rewrite pay? Both files timed in interleaved rounds, where this machine is the target."""

from pathlib import Path
from typing import Any

from edgekd import host
from edgekd.context import Context
from edgekd.device.runtimes import known_runtimes
from edgekd.models.signature import Signature
from edgekd.stages.rewrite.rewrite import Rewrite

_ROUNDS = 20


def why_not_timed(context: Context) -> str | None:
    """Return why nothing can be timed here that would count for the target, or None where it can."""
    if not host.is_target(context.target, host.this_machine()):
        return f"this machine is no {context.target.title}"
    if context.runtime_name not in known_runtimes():
        return f"{context.runtime_name} does not run here"
    return None


def timed(before: Path, after: Path, rewrite: Rewrite, signature: Signature, context: Context) -> dict[str, Any]:
    """Return how the file after a rewrite compares with the one before it: verdict, speed-up and its 95 % interval."""
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
        "on": host.describe(host.this_machine()),
    }
