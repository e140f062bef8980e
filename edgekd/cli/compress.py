"""`edgekd compress`."""

from typing import Any

import click

from edgekd.cli.options import data_options, debug_option, make_request, model_options, recipe_options, work_options


@click.command("compress")
@model_options
@work_options
@data_options
@recipe_options
@click.option("--arms", is_flag=True, help="Also train without the teacher and from scratch, for comparison.")
@debug_option
def command(recipe: str | None, arms: bool, **options: Any) -> int:
    """Compress MODEL for a target.

    MODEL is a pickled module, state dict, safetensors, TorchScript, torch.export archive (.pt2) or ONNX file. The run
    directory gets artifact/ (what goes to the device) and report.json; run the command again and it goes on where it was.
    """
    return execute_and_show(make_request(options, recipe, arms=arms), options["as_json"])


def execute_and_show(request: Any, as_json: bool) -> int:
    """Run a request, show its results, and return the verdict's exit code."""
    from edgekd.report.console import print_json, say
    from edgekd.report.terminal import show
    from edgekd.request import prepare
    from edgekd.verbs.compress import execute

    prepared = prepare(request)
    results = execute(prepared)
    if not results:  # a process that trained with the first, which shows them
        return 0
    if as_json:
        reports = [result.report for result in results]
        print_json(reports[0] if len(reports) == 1 else {"schema": 1, "targets": reports})
    else:
        for result in results:
            show(result)
        say(f"as a page: edgekd report {prepared.directory}")
    outcomes = {verdict.outcome for result in results for verdict in result.verdicts}
    return 1 if "fail" in outcomes else 3 if outcomes & {"not measured", "not distinguishable"} else 0
