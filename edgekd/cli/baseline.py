"""`edgekd baseline`."""

from pathlib import Path
from typing import Any

import click

from edgekd.cli.gate_options import measuring_options, settings_of
from edgekd.cli.options import debug_option, json_option


@click.group("baseline")
@debug_option
def command() -> None:
    """Keep the figures that `edgekd gate --baseline` compares later versions with."""


@command.command("update")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file; other entries stay.",
)
@measuring_options
@json_option
@debug_option
def update(artifact: Path, output: Path, **options: Any) -> None:
    """Measure ARTIFACT on this machine and write its figures as the baseline of this model, machine, runtime, threads and container."""
    from edgekd.device.gate.outputs.text import baseline_text
    from edgekd.report.console import print_json, results
    from edgekd.verbs.gate import update_baseline

    entry = update_baseline(
        artifact,
        output,
        settings_of(options),
        runtime=options["runtime"],
        batch=options["batch"],
        shapes=options["shapes"],
    )
    if options["as_json"]:
        print_json({"schema": 1, **entry})
    else:
        results.print(baseline_text(entry))
