"""`edgekd compress`."""

import sys
from typing import Any

import click

from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options


@click.command("compress")
@model_options
@work_options
@data_options
@click.option("--recipe", metavar="FILE|NAME", help="Recipe file or shipped recipe. Default: the target's.")
@click.option("--arms", is_flag=True, help="Also train without the teacher and from scratch, for comparison.")
@click.option("--accuracy-drop", type=float, metavar="POINTS", help="Budget: the metric may get this much worse.")
@click.option("--size", "size_kb", type=float, metavar="KB", help="Budget: size of the model file.")
@click.option("--latency", "latency_ms", type=float, metavar="MS", help="Budget: p50 on the target itself.")
@debug_option
def command(recipe: str | None, arms: bool, accuracy_drop: Any, size_kb: Any, latency_ms: Any, **options: Any) -> None:
    """Compress MODEL for a target.

    MODEL is a pickled module, state dict, safetensors, TorchScript, torch.export archive (.pt2) or ONNX file. The run
    directory gets artifact/ (what goes to the device) and report.json; run the command again and it goes on where it was.
    """
    from edgekd.budget import Budget

    limits = {"accuracy_drop": accuracy_drop, "size_kb": size_kb, "latency_ms": latency_ms}
    given = {name: value for name, value in limits.items() if value is not None}
    execute_and_show(make_request(options, recipe, Budget(**given) if given else None, arms=arms), options["as_json"])


def execute_and_show(request: Any, as_json: bool) -> None:
    """Run a request, show its results, and exit with the verdict's code."""
    from edgekd.compress import execute
    from edgekd.report.console import print_json
    from edgekd.report.terminal import show
    from edgekd.request import prepare

    results = execute(prepare(request))
    if as_json:
        reports = [result.report for result in results]
        print_json(reports[0] if len(reports) == 1 else {"schema": 1, "targets": reports})
    else:
        for result in results:
            show(result)
    outcomes = {verdict.outcome for result in results for verdict in result.verdicts}
    sys.exit(1 if "fail" in outcomes else 3 if outcomes & {"not measured", "not distinguishable"} else 0)
