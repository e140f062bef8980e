"""`edgekd eval`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import data_options, debug_option, json_option, model_options, opening_of

if TYPE_CHECKING:
    from edgekd.verbs.score import FurtherScore, Score


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
    "--reference",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="For agreement, sqnr and cosine: compare with it.",
)
@click.option(
    "--also",
    multiple=True,
    metavar="NAME=SOURCE",
    callback=lambda context, parameter, texts: _named(texts),
    help="A further data set, out of the model's domain; may be repeated.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Default: all cores.")
@json_option
@debug_option
def command(
    data: str | None,
    metric: str | None,
    part: Any,
    reference: Path | None,
    also: dict[str, str],
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score MODEL on data: a model file, an ONNX file, an artifact folder or a run directory.

    Models take preprocessing, labels and data from their sidecar, artifacts take preprocessing and labels from their
    manifest. What lies in a run directory is scored on the data of that run, cut as they were there. Of a data set given
    with --also everything is scored.
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
        also=also,
        threads=threads,
    )
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)


def _named(texts: Sequence[str]) -> dict[str, str]:
    """Return the sources of `NAME=SOURCE` by their names."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals or not name.strip() or not source:
            raise click.BadParameter(f"{text!r} is not NAME=SOURCE; for example night=night-images")
        if name in found:
            raise click.BadParameter(f"two data sets are called {name!r}; give each a name of its own")
        found[name] = source
    return found


def _show(found: "Score") -> None:
    from edgekd.report.console import print_table, results

    interval = "" if found.low is None else f" (95 % interval {found.low:.2f} to {found.high:.2f})"
    unit = f" {found.unit}" if found.unit else ""
    results.print(f"{found.model}: {found.metric} {found.value:.4g}{unit}{interval}, {found.samples:,} samples")
    cut = "" if found.part == "all" else f", cut as by {found.cut}"
    results.print(f"{found.kind} in {found.runs_in}; {found.part} part of {found.data}{cut}")
    if found.out_of_domain:
        results.print()
        own = ("own data", f"{found.samples:,}", f"{found.value:.4g}{unit}", _interval(found), "")
        others = [
            (one.name, f"{one.samples:,}", f"{one.value:.4g}{unit}", _interval(one), f"{one.difference:+.4g}")
            for one in found.out_of_domain
        ]
        print_table(["data", ">samples", f">{found.metric}", ">95 % interval", ">difference"], [own, *others])
    if found.classes:
        results.print()
        rows = [
            (one.label, f"{one.samples:,}", f"{one.accuracy:.2f} %", one.mistaken_for or "") for one in found.classes
        ]
        print_table(["class", ">samples", ">accuracy", "most often taken for"], rows)


def _interval(one: "Score | FurtherScore") -> str:
    return "" if one.low is None else f"{one.low:.2f} to {one.high:.2f}"
