"""`edgekd plan`."""

from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import (
    data_options,
    debug_option,
    make_request,
    model_options,
    recipe_options,
    sensitivity_options,
    work_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from edgekd.verbs.plan import Plan


@click.command("plan")
@model_options
@work_options
@data_options
@recipe_options
@sensitivity_options
@debug_option
def command(recipe: str | None, sensitivity: bool, samples: int, as_json: bool, **options: Any) -> int:
    """Say what compress would do with MODEL, what is missing, and roughly how long it takes.

    It takes the options of compress, reads model and data, and writes nothing. Ends with 2 when it cannot work.
    """
    from edgekd.report.console import print_json, results, say
    from edgekd.request import prepare
    from edgekd.verbs.plan import plan

    prepared = prepare(make_request(options, recipe))
    tried = samples if sensitivity else None
    plans = [plan(prepared, context, sensitivity_samples=tried) for context in prepared.contexts]
    limits = prepared.budget.model_dump(exclude_none=True)
    if as_json:
        shown = [one.to_json() for one in plans]
        print_json({"schema": 1, "remarks": list(prepared.remarks), "budget": limits, "plans": shown})
    else:
        for remark in prepared.remarks:
            say(remark)
        for number, one in enumerate(plans):
            if number:
                results.print()
            _show(one, prepared.directory)
            for limit, value in limits.items():
                results.print(f"budget: {limit} <= {value:g}")
            if one.problem:
                results.print(f"CANNOT WORK: {one.problem}")
    for problem in dict.fromkeys(one.problem for one in plans if one.problem and as_json):
        click.echo(f"edgekd: {problem}", err=True)
    return 2 if any(one.problem for one in plans) else 0


def _show(one: "Plan", directory: "Path") -> None:
    from edgekd.report.console import print_table, results, time_in_words
    from edgekd.report.sensitivity import show_sensitivity

    results.print(f"plan for {one.target} with {one.runtime}")
    rows = [
        (str(number), step.name, step.description, "stored" if step.stored else time_in_words(step.seconds))
        for number, step in enumerate(one.steps, 1)
    ]
    print_table([">", "step", "what", ">roughly"], rows)
    known = [step.seconds for step in one.steps if step.seconds is not None]
    more = "" if len(known) == len(one.steps) else ", and the steps whose time is not known"
    results.print(f"in all about {time_in_words(sum(known))}{more}")
    if any(step.stored for step in one.steps):
        results.print(f"stored: {directory} has this stage's output, it is taken from there")
    for note in one.notes:
        results.print(note)
    if one.sensitivity is not None:
        show_sensitivity(one.sensitivity)
