"""`edgekd report`."""

from pathlib import Path

import click

from edgekd.cli.options import debug_option, json_option


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--with",
    "evidence",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="What profile (or a board's run.pyz profile), diagnose or inspect --sensitivity printed with --json. Repeatable.",
)
@click.option(
    "--layers/--no-layers",
    default=True,
    show_default=True,
    help="Measure here what single layers take, where no profile tells it.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The page. Default: report.html in RUN."
)
@json_option
@debug_option
def command(run: Path, evidence: tuple[Path, ...], layers: bool, output: Path | None, as_json: bool) -> None:
    """Write what RUN, a run directory, found out as one HTML page: no script, no network.

    Stages, score against latency, time and size by layer, sensitivity, and where every figure comes from. --json prints what
    the page is made of.
    """
    from edgekd.errors import ToolMissing
    from edgekd.files import write_atomic
    from edgekd.report.console import print_json, results
    from edgekd.verbs.report import check_page_file, gather

    try:
        from edgekd.report.page import render
    except ModuleNotFoundError as error:
        raise ToolMissing(f"{error.name} is not installed: pip install 'edgekd[report]'") from error
    if output is not None:
        check_page_file(output)
    place = output or run / "report.html"
    content = gather(run, evidence, layers=layers)
    page = render(content)
    try:
        write_atomic(place, page)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error  # not the name of a temporary file
    if as_json:
        print_json(content.to_json())
    else:
        results.print(f"{place}")
