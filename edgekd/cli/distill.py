"""`edgekd distill`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage


@click.command("distill")
@model_options
@work_options
@data_options
@click.option("--epochs", type=int)
@click.option("--alpha", type=float, help="Weight of the teacher against the labels, 0 to 1.")
@click.option("--temperature", type=float)
@click.option("--learning-rate", type=float)
@click.option("--batch-size", type=int)
@debug_option
def command(**options: Any) -> None:
    """Train MODEL towards a teacher (--teacher), and export it."""
    names = ("epochs", "alpha", "temperature", "learning_rate", "batch_size")
    execute_and_show(
        make_request(options, one_stage("distill", {name: options[name] for name in names})), options["as_json"]
    )
