"""`edgekd profile`."""

from pathlib import Path
from typing import Any

import click

from edgekd.cli.options import debug_option, json_option, session_options, time_limit_option
from edgekd.cli.parsed_options import DURATION, FRAME


@click.command("profile")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--duration",
    "duration_s",
    type=DURATION,
    default="10s",
    show_default=True,
    help="Longest time; it ends earlier when the median is known to 1 %.",
)
@session_options
@click.option(
    "--frame",
    type=FRAME,
    metavar="WxH",
    help="The camera's frame, such as 640x480, for the time from the frame to the decision. Default: the model's size.",
)
@click.option(
    "--throughput", is_flag=True, help="Measure batches of 1, 2, 4, ... samples, until larger ones no longer pay."
)
@click.option(
    "--sustained",
    "sustained_s",
    type=DURATION,
    help="Then run for so long, such as 10m: minute one against the steady state.",
)
@click.option("--layers", is_flag=True, help="Show what single layers take, by the runtime's own profile.")
@time_limit_option
@json_option
@debug_option
def command(
    artifact: Path,
    batch: int | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    runtime: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure the latency, and where there is a sensor the energy, of ARTIFACT on this machine.

    ARTIFACT is an artifact folder, a run directory or an ONNX file; on a Raspberry Pi with its AI camera, a packed network.rpk.
    It runs in a process of its own: one that crashes, hangs or runs out of memory is told with exit code 3.

    For the board itself, copy the artifact there and run `python3 run.pyz profile`.
    """
    from edgekd.device.energy import require_energy
    from edgekd.device.printing import profile_text
    from edgekd.device.profile import ProfileSettings
    from edgekd.report.console import print_json, results, say
    from edgekd.verbs.profile import profile

    found = profile(artifact, ProfileSettings(**settings), batch=batch, runtime=runtime, shapes=shapes, say=say)
    if as_json:
        print_json({"schema": 1, **found})
    else:
        results.print(profile_text(found))
    require_energy(settings["sensor"], found)
