"""`edgekd profile`."""

from pathlib import Path
from typing import Any

import click

from edgekd.cli.options import debug_option, json_option


@click.command("profile")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="OTHER", help="Which one is faster, measured in turns."
)
@click.option(
    "--duration",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time; it ends earlier when the median is known to 1 %.",
)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of the runtime.")
@click.option("--batch", type=click.IntRange(1), help="Samples a call. Default: the model's own, or 1.")
@click.option(
    "--sensor",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Of energy: auto, none, ina3221, tegrastats, pi5-pmic, rapl, nvml or meter:FILE.",
)
@json_option
@debug_option
def command(
    artifact: Path, against: Path | None, duration: float, threads: int, batch: int | None, sensor: str, as_json: bool
) -> None:
    """Measure the latency, and where there is a sensor the energy, of ARTIFACT on this machine: an artifact folder, a run directory or an ONNX file.

    For the board itself, copy the artifact there and run `python3 run.pyz profile`.
    """
    from edgekd.device.printing import profile_text
    from edgekd.report.console import print_json, results
    from edgekd.verbs.profile import profile, profile_against

    if against is not None and sensor != "auto":
        raise click.UsageError("--sensor measures one artifact; leave --against out")
    if against is None:
        found = profile(artifact, duration_s=duration, threads=threads, batch=batch, sensor=sensor)
        lines = profile_text(found).splitlines()
        shown = "\n".join(line for line in lines if found["peak_memory_mib"] or not line.startswith("  peak memory"))
    else:
        found = profile_against(artifact, against, duration_s=duration, threads=threads, batch=batch)
        shown = "\n".join(_comparison(found))
    if as_json:
        print_json({"schema": 1, **found})
    else:
        results.print(shown)


def _comparison(found: dict[str, Any]) -> list[str]:
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
