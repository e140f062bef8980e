"""`edgekd targets`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import TargetName, debug_option, json_option

if TYPE_CHECKING:
    from edgekd.target import Target


@click.group("targets")
@debug_option
def command() -> None:
    """List, show, validate and make target profiles."""


@command.command("list")
@json_option
@debug_option
def list_(as_json: bool) -> None:
    """Show every target, and whether its export is there yet."""
    from edgekd.report.console import print_json, print_table, warn
    from edgekd.verbs.targets import readable_targets

    targets, broken = readable_targets()
    found = [(target, _export(target)) for target in targets]
    if as_json:
        print_json({"schema": 1, "targets": [_summary(*one) for one in found], "broken": broken})
    else:
        rows = [
            (
                target.name,
                target.title,
                target.default_runtime,
                ", ".join(target.runtime[target.default_runtime].precisions),
                export or "not there yet",
                ", ".join(target.aliases),
            )
            for target, export in found
        ]
        print_table(["target", "title", "runtime", "precisions", "export", "also called"], rows)
    for message in broken:
        warn(f"left out: {message}")


def _export(target: "Target") -> str | None:
    """Return the runtime that edgekd can export for: the target's own if it can, else another one it has."""
    from edgekd.stages.export import EXPORTERS

    order = [target.default_runtime, *target.runtime]
    return next((runtime for runtime in order if runtime in EXPORTERS), None)


def _summary(target: "Target", export: str | None) -> dict[str, Any]:
    runtime = target.runtime[target.default_runtime]
    return {
        "name": target.name,
        "title": target.title,
        "runtime": target.default_runtime,
        "precisions": runtime.precisions,
        "export": export,
        "aliases": target.aliases,
    }


@command.command("show")
@click.argument("name", type=TargetName())
@json_option
@debug_option
def show_(name: str, as_json: bool) -> None:
    """Show all facts about a target, each with its unit, source and confidence."""
    from edgekd.report.console import print_json, print_table, results, say
    from edgekd.stages.export import EXPORTERS
    from edgekd.target import load_target

    target, meaning = load_target(name)
    if meaning:
        say(meaning)
    if as_json:
        print_json({"schema": 1, **target.model_dump(mode="json"), "export": _export(target)})
        return
    results.print(f"{target.name}: {target.title}")
    results.print(f"default recipe {target.default_recipe}; channels in multiples of {target.channels.granularity}")
    results.print(f"  ({target.channels.confidence}: {' '.join(target.channels.source.split())})")
    machines = [f"a board that names itself {model}" for model in target.board_models]
    machines += [f"any {architecture} machine" for architecture in target.architectures]
    results.print(f"this target is: {'; '.join(machines) or 'no machine that edgekd runs on'}")
    for alias, why in target.aliases.items():
        results.print(f"also called {alias}: {why}")
    results.print()
    rows = [
        (fact, f"{_value(one.value)} {one.unit or ''}".strip(), one.confidence, " ".join(one.source.split()))
        for fact, one in target.facts.items()
    ]
    print_table(["fact", "value", "confidence", "source"], rows)
    limits = target.limits.model_dump(exclude_none=True)
    if limits:
        results.print()
        print_table(["limit", "value"], [(limit, _value(value)) for limit, value in limits.items()])
    for runtime_name, runtime in target.runtime.items():
        results.print()
        default = ", the default" if runtime_name == target.default_runtime else ""
        export = "" if runtime_name in EXPORTERS else "; its export is not there yet"
        results.print(f"runtime {runtime_name}{default}{export}")
        plain = runtime.model_dump(exclude_none=True, exclude={"quantization"})
        rows_ = [(setting, _value(value)) for setting, value in plain.items()]
        if runtime.quantization is not None:
            rows_ += [
                (f"int8 {setting}", _value(value)) for setting, value in runtime.quantization.model_dump().items()
            ]
        print_table(["setting", "value"], rows_)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "the executor's choice"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,g}" if isinstance(value, float) else " ".join(str(value).split())


@command.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@debug_option
def validate_(file: Path, as_json: bool) -> int:
    """Show every problem of a target file, with the field and what to do.

    Ends with 2 when there are any.
    """
    from edgekd.report.console import print_json, results
    from edgekd.verbs.targets import problems_of

    problems = problems_of(file)
    if as_json:
        print_json({"schema": 1, "file": str(file), "problems": [problem.to_json() for problem in problems]})
    elif not problems:
        results.print(f"{file}: good")
    for problem in problems:
        if not as_json:
            results.print(f"{problem.field}: {problem.problem}; {problem.fix}")
    if problems:
        click.echo(f"edgekd: {file}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", err=True)
    return 2 if problems else 0


@command.command("new")
@click.argument("name")
@click.option("--like", type=TargetName(), required=True, metavar="OTHER", help="The target to begin from.")
@debug_option
def new_(name: str, like: str) -> None:
    """Write targets/NAME.toml, a copy to change.

    Targets of ./targets are found before all others.
    """
    from edgekd.report.console import results
    from edgekd.verbs.targets import new_target

    path = new_target(name, like)
    results.print(f"{path}: change its facts, then `edgekd targets validate {path}`; use it with --target {name}")
