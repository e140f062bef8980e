"""`edgekd compare`."""

from pathlib import Path
from typing import Any

import click

from edgekd.cli.options import debug_option, json_option
from edgekd.cli.parsed_options import DURATION


@click.command("compare")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.argument("baseline", type=click.Path(path_type=Path))
@click.option(
    "--duration",
    type=DURATION,
    default="10s",
    show_default=True,
    help="Of both together.",
)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of the runtime.")
@click.option("--batch", type=click.IntRange(1), help="Samples a call. Default: the models' own, or 1.")
@json_option
@debug_option
def command(candidate: Path, baseline: Path, duration: float, threads: int, batch: int | None, as_json: bool) -> None:
    """Say whether CANDIDATE is faster than BASELINE, each an artifact folder, a run directory or an ONNX file.

    They are timed in turns, in blocks of 30 ms, so that what slows the machine down slows both. The ratio is the median over the
    rounds, with its 95 % interval; within 2 % of equal it is "not distinguishable".
    """
    from edgekd.report.console import print_json, results
    from edgekd.verbs.compare import compare

    found = compare(candidate, baseline, duration_s=duration, threads=threads, batch=batch)
    if as_json:
        print_json({"schema": 1, **found})
    else:
        results.print("\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:
    compared, machine = found["comparison"], found["before"]
    lines = [f"batch {found['batch']}, on {machine['board'] or machine['cpu_model'] or machine['architecture']}"]
    for role in ("candidate", "baseline"):
        one, latency = found[role], compared[role]
        session = f"{one['session']['runtime']} {one['session']['version']}, threads {one['session']['threads']}"
        p50 = f"p50 {latency['p50_ms']:.4g} ms, {latency['n']:,} calls"
        lines.append(f"  {one['path']} ({one['precision']}, {session}): {p50}")
    low, high = compared["speedup_low"], compared["speedup_high"]
    interval = f"95 % interval {low:.3f} to {high:.3f}" if low is not None and high is not None else "too few blocks"
    path = found["candidate"]["path"]
    if compared["verdict"] == "not distinguishable":
        lines.append(f"not distinguishable: ratio {compared['speedup']:.3f} ({interval})")
    elif compared["verdict"] == "faster":
        lines.append(f"{path} is {compared['speedup']:.2f} times as fast ({interval})")
    else:
        lines.append(f"{path} is slower: {compared['speedup']:.2f} times as fast ({interval})")
    return lines + [f"warning: {note}" for note in found["warnings"]]
