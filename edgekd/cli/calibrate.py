"""`edgekd calibrate`."""

from pathlib import Path
from typing import Any

import click

from edgekd.cli.options import TargetName, debug_option, json_option


@click.command("calibrate")
@click.argument("figures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-t", "--target", type=TargetName(), required=True, help="The board that they were measured on.")
@click.option(
    "--runtime", metavar="NAME", help="That they were measured in. Default: as profiles say, else the target's own."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Of the runtime. Default: as profiles say.")
@click.option(
    "--from",
    "source",
    metavar="FILE|NAME",
    help="Coefficients to transfer. Default: shipped ones for fewer than 5 networks.",
)
@click.option(
    "--choose",
    metavar="COUNT",
    type=click.IntRange(1, 1000),
    help="Fit nothing, but say which of the networks without a p50_ms to measure first.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The JSON file to write.")
@json_option
@debug_option
def command(
    figures: tuple[Path, ...],
    target: str,
    runtime: str | None,
    threads: int | None,
    source: str | None,
    choose: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Fit the coefficients of `edgekd predict` to latencies that you measured.

    FIGURES is a CSV with the columns model (a path from there), p50_ms and, if you like, family (networks of one design, of
    which a single one counts as its own); a JSON list of the same; or several outputs of `run.pyz profile --json`, each saved
    in the folder of its artifact. All files are of one precision, measured at batch 1.
    """
    if choose is not None:
        if output or source or threads:
            raise click.UsageError("--choose fits nothing: leave out -o, --from and --threads")
        _choose(figures, target, choose, runtime, as_json)
        return
    if output is None:
        raise click.UsageError("-o FILE is missing: where the coefficients go")

    from edgekd.report.console import print_json, print_table, results
    from edgekd.verbs.calibrate import calibrate

    found = calibrate(figures, target, output, runtime=runtime, threads=threads, source=source)
    if as_json:
        print_json({"schema": 1, **found})
        return
    results.print("\n".join(_lines(found)))
    print_table(
        ("network", "family", ">measured", ">left out"),
        [
            (
                one["model"],
                one["family"],
                f"{one['measured_ms']:.4g} ms",
                "-" if one["left_out_ms"] is None else f"{one['left_out_ms']:.4g} ms",
            )
            for one in found["networks"]
        ],
    )


def _choose(figures: tuple[Path, ...], target: str, count: int, runtime: str | None, as_json: bool) -> None:
    from edgekd.report.console import print_json, results
    from edgekd.verbs import calibrate

    found = calibrate.choose(figures, target, count, runtime=runtime)
    if as_json:
        print_json({"schema": 1, **found})
        return
    results.print(f"measure first, on {found['target']} in {found['runtime']}, {found['precision']}:")
    results.print("\n".join(f"  {one['file']}" for one in found["choose"]))


def _lines(found: dict[str, Any]) -> list[str]:
    count, families = len(found["networks"]), len(found["families"])
    lines = [f"{found['coefficients']}: {found['target']}, {found['runtime']}, {found['precision']}"]
    lines.append(
        f"  fitted to    {count} network{'s' if count > 1 else ''} of {families} famil{'ies' if families > 1 else 'y'}"
        + (f", transferred from {found['transferred_from']}" if found["transferred_from"] else "")
    )
    error, across = found["left_out_median_error"], found["family_left_out_median_error"]
    lines.append(
        f"  left out     {'one network: no error is known' if error is None else f'median error {100 * error:.1f} %'}"
    )
    if across is not None:
        lines.append(f"  families     median error {100 * across:.1f} % when a whole family is left out")
    elif count == 1:
        lines.append(
            "  nothing can be predicted from one network: measure a second one of its family, so that an error is known"
        )
    else:
        lines.append("  families     fewer than three: `edgekd predict` wants --family and predicts nothing else")
    return lines
