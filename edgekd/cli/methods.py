"""`edgekd methods`."""

from pathlib import Path
from typing import Any

import click

from edgekd.cli.options import debug_option, json_option


@click.group("methods", invoke_without_command=True)
@json_option
@click.option(
    "--capability", type=click.Choice([f"C0{n}" for n in range(1, 6)], case_sensitive=False), help="Only these."
)
@debug_option
@click.pass_context
def command(context: click.Context, as_json: bool, capability: str | None) -> None:
    """List the distillation methods that a recipe may name; show and bench them."""
    if context.invoked_subcommand is not None:
        return
    from edgekd.report.console import print_json, print_table
    from edgekd.verbs.methods.catalogue import catalogue

    methods = [method for method in catalogue() if capability in (None, method.capability)]
    if as_json:
        print_json({"schema": 1, "methods": [method.to_json() for method in methods]})
        return
    rows = [
        (method.kind, method.role, method.capability, method.evidence, method.title, method.applies)
        for method in methods
    ]
    print_table(["method", "field", "capability", "evidence", "what it is", "where it applies"], rows)


@command.command("show")
@click.argument("kind")
@json_option
@debug_option
def show_(kind: str, as_json: bool) -> None:
    """Show one method: where it comes from, what it needs, every setting with its default."""
    from edgekd.report.console import print_json, print_table, results
    from edgekd.verbs.methods.catalogue import EVIDENCE, find_method

    found = find_method(kind)
    if as_json:
        print_json({"schema": 1, "methods": [method.to_json() for method in found]})
        return
    for method in found:
        results.print(f"{method.kind}: {method.title} ({method.role}, {method.capability})")
        results.print(f"source: {method.source}")
        results.print(f"evidence: {method.evidence}, {EVIDENCE[method.evidence]}")
        if method.variant:
            results.print(f"edgekd variant: {method.variant}")
        if method.applies:
            results.print(f"applies to: {method.applies}")
        if method.needs:
            results.print(f"needs: {', '.join(method.needs)}")
        rows = [
            (setting.name, "required" if setting.required else _shown(setting.default), setting.description)
            for setting in method.settings
        ]
        print_table(["setting", "default", "meaning"], rows)


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


@command.command("bench")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="An arm of the list, or a kind that arms use. Default: all of the data.",
)
@click.option(
    "--data",
    "sets",
    multiple=True,
    metavar="NAME",
    help="digits, wrong-teacher, half-experts, shapes, two-view, two-view-shuffled or fashion-mnist.",
)
@click.option("--seeds", type=click.IntRange(2, 100), default=5, show_default=True, help="Pairs of runs.")
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True, help="The others count up from it.")
@click.option("--epochs", type=click.IntRange(1), help="In place of the data's own number.")
@click.option(
    "--settings", type=click.Path(path_type=Path, dir_okay=False), help="A file of arms in place of the shipped."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Keeps every run; goes on from there."
)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="For training.")
@click.option("--list", "only_list", is_flag=True, help="Show the arms, run nothing.")
@json_option
@debug_option
def bench_(
    methods: tuple[str, ...],
    sets: tuple[str, ...],
    seeds: int,
    first_seed: int,
    epochs: int | None,
    settings: Path | None,
    output: Path | None,
    threads: int,
    only_list: bool,
    as_json: bool,
) -> None:
    """Train students with each method and without, over several seeds, and compare the pairs.

    Every arm has the same student, data, epochs and seeds. Shown are the mean difference from the arm without distillation,
    its 95 % interval and the paired p, corrected for the number of methods (Holm).
    """
    from edgekd.report.console import print_json, print_table, progress, results, say
    from edgekd.verbs.methods.bench import read_arms, run_bench

    arms = read_arms(settings, sets, methods)
    if only_list:
        print_table(["data", "arm", "losses"], [(arm.data, arm.name, arm.in_words()) for arm in arms])
        return
    tables = run_bench(
        arms,
        range(first_seed, first_seed + seeds),
        epochs=epochs,
        folder=output,
        threads=threads,
        say=say,
        progress=progress,
    )
    if as_json:
        print_json(
            {
                "schema": 1,
                "seeds": list(range(first_seed, first_seed + seeds)),
                "tables": [one.to_json() for one in tables],
            }
        )
        return
    for one in tables:
        print_table(one.columns(), one.rows_in_words(), title=one.title())
        results.print("")
