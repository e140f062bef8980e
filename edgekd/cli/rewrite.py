"""`edgekd rewrite`: the one stage alone."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import one_stage
from edgekd.cli.table_option import read_table


@click.command("rewrite")
@model_options
@work_options
@data_options
@click.option(
    "--rewrite",
    "rewrites",
    multiple=True,
    required=True,
    metavar="KIND[:NAME=VALUE,...]",
    help="E.g. fold-batch-norm, low-rank:energy=0.99, or, in single quotes for the shell, "
    '\'drop-branches:modules=["side","aux"]\'. Several are done in order. docs/rewrites.md lists them.',
)
@click.option(
    "--keep",
    type=click.Choice(["if-better", "always"]),
    help="if-better: take back what does not pay on the target; always: time nothing. Default: if-better.",
)
@debug_option
def command(**options: Any) -> int:
    """Compute what MODEL does with fewer or other operators, verify it, and export it."""
    rewrites = [read_table(text, "--rewrite") for text in options["rewrites"]]
    recipe = one_stage("rewrite", {"rewrites": rewrites, "keep": options["keep"]})
    return execute_and_show(make_request(options, recipe), options["as_json"])
