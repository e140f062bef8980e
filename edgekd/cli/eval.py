"""`edgekd eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import data_options, debug_option, json_option, model_options, opening_of

if TYPE_CHECKING:
    from edgekd.verbs.score import Score


@click.command("eval")
@model_options
@data_options
@click.option(
    "--part",
    type=click.Choice(["evaluation", "validation", "all"]),
    default="evaluation",
    show_default=True,
    help="What compress reports on, what it decides on, or everything.",
)
@click.option(
    "--reference", type=click.Path(path_type=Path), metavar="MODEL", help="For agreement and sqnr: compare with it."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Default: all cores.")
@json_option
@debug_option
def command(
    data: str | None,
    metric: str | None,
    part: Any,
    reference: Path | None,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score MODEL on data: a model file, an ONNX file, an artifact folder or a run directory.

    Models take preprocessing, labels and data from their sidecar, artifacts take preprocessing and labels from their
    manifest. What lies in a run directory is scored on the data of that run, cut as they were there.
    """
    from edgekd.report.console import print_json
    from edgekd.verbs.score import score

    found = score(
        options["model"],
        data,
        opening=opening_of(options),
        metric=metric,
        part=part,
        reference=reference,
        threads=threads,
    )
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)


def _show(found: "Score") -> None:
    from edgekd.report.console import print_table, results

    interval = "" if found.low is None else f" (95 % interval {found.low:.2f} to {found.high:.2f})"
    unit = f" {found.unit}" if found.unit else ""
    results.print(f"{found.model}: {found.metric} {found.value:.4g}{unit}{interval}, {found.samples:,} samples")
    cut = "" if found.part == "all" else f", cut as by {found.cut}"
    results.print(f"{found.kind} in {found.runs_in}; {found.part} part of {found.data}{cut}")
    if found.classes:
        results.print()
        rows = [
            (one.label, f"{one.samples:,}", f"{one.accuracy:.2f} %", one.mistaken_for or "") for one in found.classes
        ]
        print_table(["class", ">samples", ">accuracy", "most often taken for"], rows)
