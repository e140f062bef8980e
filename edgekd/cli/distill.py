"""`edgekd distill`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage

SETTINGS = ("epochs", "alpha", "temperature", "learning_rate", "batch_size")


@click.command("distill")
@model_options
@work_options
@data_options
@click.option("--epochs", type=int, help="Passes over the train part.")
@click.option("--alpha", type=float, help="Weight of the teacher against the labels, 0 to 1.")
@click.option("--temperature", type=float, help="Softens the teacher's answers.")
@click.option("--learning-rate", type=float, help="The highest one of the schedule.")
@click.option("--batch-size", type=int, help="Samples a step.")
@debug_option
def command(**options: Any) -> int:
    """Train MODEL towards a teacher (--teacher), and export it."""
    recipe = one_stage("distill", {name: options[name] for name in SETTINGS})
    return execute_and_show(make_request(options, recipe), options["as_json"])
