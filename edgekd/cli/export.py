"""`edgekd export`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import without_stages


@click.command("export")
@model_options
@work_options
@data_options
@click.option("--uint8-input", is_flag=True, help="Raw bytes go in; the preprocessing is inside the graph.")
@click.option("--include-samples", is_flag=True, help="Put real samples into the artifact, whatever their licence.")
@debug_option
def command(uint8_input: bool, include_samples: bool, **options: Any) -> int:
    """Write MODEL in the target's format, with manifest, self-check and run.pyz."""
    recipe = without_stages("uint8" if uint8_input else "float32", include_samples=include_samples)
    return execute_and_show(make_request(options, recipe), options["as_json"])
