"""`edgekd quantize`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage


@click.command("quantize")
@model_options
@work_options
@data_options
@click.option(
    "--calibrator", "calibrators", multiple=True, type=click.Choice(["min-max", "percentile", "entropy", "mse"])
)
@click.option(
    "--keep-float", multiple=True, metavar="NODE|OPERATOR", help="ONNX nodes or operators that stay in float."
)
@debug_option
def command(**options: Any) -> None:
    """Quantize MODEL to int8 with real calibration, and export it."""
    names = ("calibrators", "keep_float")
    execute_and_show(
        make_request(options, one_stage("quantize", {name: options[name] for name in names})), options["as_json"]
    )
