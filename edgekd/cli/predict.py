"""`edgekd predict`."""

from typing import Any

import click

from edgekd.cli.options import TargetName, debug_option, json_option, model_options, opening_of

_SHOWN = 8


@click.command("predict")
@model_options
@click.option("-t", "--target", type=TargetName(), required=True, help="`edgekd targets list`.")
@click.option("--runtime", metavar="NAME", help="Default: the target's own, where there are coefficients for it.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Of a float file: what the runtime makes of it. Default: the file's own.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Where coefficients differ in them.")
@click.option("--coefficients", metavar="FILE|NAME", help="Of `edgekd calibrate`, or the name of shipped ones.")
@click.option("--family", metavar="NAME", help="The network belongs to this family of the fitted ones.")
@json_option
@debug_option
def command(
    target: str,
    runtime: str | None,
    precision: str | None,
    threads: int | None,
    coefficients: str | None,
    family: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict how long MODEL takes on a board that is not at hand: an artifact, a run directory, an ONNX or a torch file.

    A prediction rests on networks that were measured on the board, and has the interval that left-out ones had. Outside of
    what they cover nothing is predicted (exit code 3). `edgekd calibrate` makes coefficients for your own board.
    """
    from edgekd.report.console import print_json, print_table, results
    from edgekd.verbs.predict import predict

    found = predict(
        options["model"],
        target,
        runtime=runtime,
        precision=precision,
        threads=threads,
        coefficients=coefficients,
        family=family,
        opening=opening_of(options),
    )
    if as_json:
        print_json({"schema": 1, **found})
        return
    figures = found["figures"]
    latency = figures["latency_p50_predicted_ms"]
    on = f"{found['target']}, {found['runtime']}, {found['precision']}"
    on += f", {found['threads']} threads" if found["threads"] else ""
    results.print(f"{found['model']} on {on}: {found['note']}")
    results.print(
        f"  latency p50     {latency['value']:.4g} ms, {100 * found['level']:.0f} % interval {latency['low']:.4g} to "
        f"{latency['high']:.4g}; mostly {found['bound']}"
    )
    results.print(f"  rests on        {found['rests_on']}: median error {100 * found['median_error']:.1f} %")
    results.print(f"  coefficients    {found['coefficients']}; {found['source']}")
    if found["transferred_from"]:
        results.print(f"  transferred     from {found['transferred_from']}")
    computing, moving = (figures[f"energy_{part}_estimated_mj"] for part in ("compute", "dram"))
    results.print(
        f"  energy estimate {computing['value']:.4g} mJ computing, {moving['value']:.4g} mJ if every tensor went through DRAM; "
        f"{computing['on']}, not of this board"
    )
    print_table(
        ("kernel", "operator", ">us", ">share", "waits for"),
        [
            (one["name"], one["operator"], f"{one['us']:.4g}", f"{100 * one['share']:.1f} %", one["bound"])
            for one in found["kernels"][:_SHOWN]
        ],
    )
