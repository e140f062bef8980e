"""`edgekd mask`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage

SETTINGS = ("sparsity", "pattern", "scope", "importance", "keep", "epochs", "learning_rate", "batch_size")


@click.command("mask")
@model_options
@work_options
@data_options
@click.option("--sparsity", type=float, metavar="SHARE", help="Share of the weights that become zero, e.g. 0.7.")
@click.option(
    "--pattern", metavar="N:M", help="Of M consecutive inputs of a weight N stay, e.g. 2:4. Default: unstructured."
)
@click.option(
    "--scope", type=click.Choice(["global", "local"]), help="All layers compete, or each gives the same share."
)
@click.option("--importance", type=click.Choice(["magnitude", "lamp"]))
@click.option("--keep", multiple=True, metavar="MODULE", help="A module that is left dense.")
@click.option("--epochs", type=int, help="Passes over the train part in which the zeros grow. Default: 0, all at once.")
@click.option("--learning-rate", type=float, help="The highest one of the schedule.")
@click.option("--batch-size", type=int, help="Samples a step, over all processes.")
@debug_option
def command(**options: Any) -> int:
    """Set the least weights of MODEL to zero, and export it. Zeros alone make nothing faster on a CPU."""
    recipe = one_stage("mask", {name: options[name] for name in SETTINGS})
    return execute_and_show(make_request(options, recipe), options["as_json"])
