"""`edgekd bench`."""

from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import data_options, debug_option, make_request, model_options, recipe_option, work_options

if TYPE_CHECKING:
    from edgekd.verbs.bench.bench import Bench


@click.command("bench")
@model_options
@work_options
@data_options
@recipe_option
@click.option("--epochs", type=int, default=10, show_default=True, help="Of every trained cell.")
@click.option("--seeds", type=int, default=3, show_default=True, help="They count up from --seed or the recipe's.")
@click.option(
    "--order",
    "orders",
    multiple=True,
    metavar="A,B,C",
    help="Try this order of all three beside the recipe's own, e.g. prune,quantize,distill. Default: all six.",
)
@click.option("--dry-run", is_flag=True, help="Show the cells, what is left out and roughly how long it takes.")
@debug_option
def command(
    recipe: str | None, epochs: int, seeds: int, orders: tuple[str, ...], dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Try prune, quantize and distill on MODEL alone, together and in every order, each with as many epochs.

    Settings come from the recipe. The run directory gets bench.json, bench.md, bench.svg and everything that was made; run
    the command again and it goes on where it was.
    """
    from edgekd.files import write_atomic
    from edgekd.report.bench import markdown, show
    from edgekd.report.console import print_json
    from edgekd.report.pareto import pareto_svg
    from edgekd.verbs.bench.bench import prepare_bench, run_bench
    from edgekd.verbs.bench.cells import read_order

    bench = prepare_bench(
        make_request(options, recipe),
        epochs=epochs,
        seeds=seeds,
        orders=[read_order(order) for order in orders] or None,
    )
    if dry_run:
        _preview(bench, as_json)
        return
    table = run_bench(bench)
    write_atomic(bench.prepared.directory / "bench.md", markdown(table))
    write_atomic(bench.prepared.directory / "bench.svg", pareto_svg(table))
    if as_json:
        print_json(table.to_json())
    else:
        show(table)


def _preview(bench: "Bench", as_json: bool) -> None:
    from edgekd.report.console import plural, print_json, print_table, results, say, time_in_words
    from edgekd.verbs.bench.bench import preview

    planned, seconds = preview(bench)
    if as_json:
        print_json(
            {"schema": 1, "seeds": list(bench.seeds), "cells": [one.to_json() for one in planned], "seconds": seconds}
        )
        return
    for remark in bench.prepared.remarks:
        say(remark)
    rows = [(one.cell.name, f"left out: {one.problem}" if one.problem else one.cell.in_words()) for one in planned]
    print_table(["cell", "stages, and epochs of training"], rows)
    time = "not known" if seconds is None else f"about {time_in_words(seconds)}, and to measure some minutes more"
    results.print(f"{plural(len(bench.seeds), 'seed')}: {time}")
