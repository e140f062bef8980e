"""`edgekd quantize`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage

SETTINGS = ("calibrators", "keep_float", "accuracy_drop")


@click.command("quantize")
@model_options
@work_options
@data_options
@click.option(
    "--calibrator",
    "calibrators",
    multiple=True,
    type=click.Choice(["min-max", "percentile", "entropy", "mse"]),
    help="Try only these. Default: all, and the validation part picks.",
)
@click.option(
    "--keep-float", multiple=True, metavar="NODE|OPERATOR", help="ONNX nodes or operators that stay in float."
)
@click.option(
    "--accuracy-drop",
    type=click.FloatRange(0),
    metavar="POINTS",
    help="Keep as few layers in float as hold the metric within this of the float network.",
)
@debug_option
def command(**options: Any) -> int:
    """Quantize MODEL to int8 with real calibration, and export it."""
    recipe = one_stage("quantize", {name: options[name] for name in SETTINGS})
    return execute_and_show(make_request(options, recipe), options["as_json"])
