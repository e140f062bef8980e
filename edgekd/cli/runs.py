"""`edgekd runs`."""

import sys
from pathlib import Path

import click

from edgekd.cli.options import debug_option, json_option


@click.group("runs")
@debug_option
def command() -> None:
    """List and clean run directories."""


@command.command("list")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@json_option
@debug_option
def list_(folder: Path | None, as_json: bool) -> None:
    """Show the runs in FOLDER and one level below.

    Default: the current folder and edgekd-runs.
    """
    from edgekd.report.console import print_json, print_table, say
    from edgekd.verbs.runs import list_runs

    folders = [folder] if folder is not None else [Path("edgekd-runs"), Path()]
    found = list_runs(folders)
    if as_json:
        print_json({"schema": 1, "runs": [run.to_json() for run in found]})
        return
    rows = [
        (run.path, run.model or "?", ", ".join(run.targets) or "?", run.state, _size(run.bytes), run.changed)
        for run in found
    ]
    print_table(["run", "model", "target", "state", ">size", "last change"], rows)
    if not rows:
        say(f"no runs in {' or '.join(str(one.resolve()) for one in folders)}")


@command.command("clean")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--keep-artifact/--remove-artifact", default=True, show_default=True, help="What goes to the device stays, or not."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@debug_option
def clean_(folder: Path, keep_artifact: bool, yes: bool, as_json: bool) -> None:
    """Remove what a run in FOLDER can make again.

    That is stages/, onnx/ and figures/; report, recipe and log stay.
    """
    from edgekd.errors import InputError
    from edgekd.report.console import print_json, results, say
    from edgekd.verbs.runs import clean, removable

    found = removable(folder, keep_artifact=keep_artifact)
    if found and not yes:
        listing = ", ".join(f"{name}/ ({_size(size)})" for name, size in found.items())
        if not sys.stdin.isatty():
            raise InputError(f"this would remove {listing} from {folder}; say --yes")
        click.confirm(f"Remove {listing} from {folder}?", abort=True, err=True)
    removed = clean(folder, keep_artifact=keep_artifact)
    total = sum(removed.values())
    if as_json:
        print_json({"schema": 1, "run": str(folder), "removed": removed, "bytes": total})
    elif removed:
        results.print(f"removed {', '.join(f'{name}/' for name in removed)} from {folder}: {_size(total)}")
    else:
        say(f"nothing to remove in {folder}")


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
