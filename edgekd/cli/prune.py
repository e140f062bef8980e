"""`edgekd prune`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage

SETTINGS = (
    "to_macs", "to_parameters", "to_latency", "to_ms", "importance", "scope", "latency_aware", "axes", "search",
    "search_epochs", "granularity", "largest_cut", "steps", "keep",
)  # fmt: skip
IMPORTANCES = ["magnitude", "batch-norm", "taylor", "hessian", "fpgm", "lamp", "activation", "random"]


@click.command("prune")
@model_options
@work_options
@data_options
@click.option("--to-macs", type=float, metavar="SHARE", help="Share of the multiply-accumulates that stays, e.g. 0.5.")
@click.option("--to-parameters", type=float, metavar="SHARE", help="Share of the parameters that stays.")
@click.option(
    "--to-latency", type=float, metavar="SHARE", help="Share of the latency; the target must be this machine."
)
@click.option("--to-ms", type=float, metavar="MS", help="p50 of one float inference; the target must be this machine.")
@click.option(
    "--importance", type=click.Choice(IMPORTANCES), help="What tells which channels matter least. Default: magnitude."
)
@click.option(
    "--scope", type=click.Choice(["global", "local", "isomorphic"]), help="Which layers compete. Default: global, all."
)
@click.option(
    "--latency-aware",
    is_flag=True,
    default=None,
    help="Rank by importance per measured millisecond; the target must be this machine.",
)
@click.option(
    "--axes",
    multiple=True,
    type=click.Choice(["depth", "hidden", "heads", "mlp"]),
    help="Blocks, or a width of a transformer, that may be cut; repeatable. Default: all widths.",
)
@click.option("--search", type=int, metavar="SHAPES", help="Of a transformer: try up to ten shapes. Default: 0, none.")
@click.option("--search-epochs", type=int, help="Of each shape's short distillation. Default: 1.")
@click.option("--granularity", type=int, help="Channel multiple. Default: the target's.")
@click.option("--largest-cut", type=float, metavar="SHARE", help="Of a layer's channels. Default: 0.75.")
@click.option("--steps", type=int, help="Small cuts; ranked again after each. Default: 50.")
@click.option("--keep", multiple=True, metavar="MODULE", help="A module that is left alone.")
@debug_option
def command(**options: Any) -> int:
    """Remove channels or blocks of MODEL until a budget is met, and export it."""
    recipe = one_stage("prune", {name: options[name] for name in SETTINGS})
    return execute_and_show(make_request(options, recipe), options["as_json"])
