"""`edgekd doctor`. Prints without rich, which a broken installation may lack."""

import json
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import debug_option, json_option

if TYPE_CHECKING:
    from edgekd.verbs.doctor import Diagnosis


@click.command("doctor")
@json_option
@debug_option
def command(as_json: bool) -> int:
    """Say what this machine and installation can do: packages, processor, data, tools.

    Ends with 4 when a package that edgekd itself needs is missing, has the wrong version or does not load.
    """
    from edgekd.verbs.doctor import diagnose

    found = diagnose()
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        click.echo("\n".join(_lines(found)))
    for problem in found.problems:
        click.echo(f"edgekd: {problem}", err=True)
    return 4 if found.problems else 0


def _lines(found: "Diagnosis") -> list[str]:
    lines = [f"edgekd {found.edgekd}, Python {found.python} ({found.executable}), {found.system}", "", "packages"]
    width = max(len(one.name) for one in found.packages)
    for extra in dict.fromkeys(one.extra for one in found.packages):
        members = [one for one in found.packages if one.extra == extra]
        missing = [one for one in members if one.problem]
        title = "needed" if extra is None else f"extra [{extra}]"
        advice = f": {missing[0].install_line}" if missing and extra is not None else ""
        lines.append(f"  {title}{advice}")
        for one in members:
            state = f"{one.problem}: {one.install_line}" if one.problem and extra is None else one.problem or "good"
            lines.append(f"    {one.name:<{width}}  {one.installed or '-':<14}  {state}")
    lines += ["", "this machine", *(f"  {line}" for line in _machine(found.machine))]
    lines += [f"  GPU: {gpu}" for gpu in found.gpus] or ["  GPU: none that torch can use; everything works on the CPU"]
    lines += ["", "telemetry of libraries", *(f"  {name}={value}" for name, value in found.telemetry.items())]
    lines += ["", "data sets", *(f"  {_data(one)}" for one in found.data)]
    lines += ["", "optional tools", *(f"  {name}: {_tool(tool)}" for name, tool in found.tools.items()), ""]
    lines.append("everything that edgekd itself needs is here" if not found.problems else "something is missing")
    return lines


def _machine(machine: dict[str, Any]) -> list[str]:
    if not machine:
        return ["not known: numpy is missing or does not load"]
    isa = machine["int8_isa"] or "none: int8 pays less here, and its results differ a little from those of such CPUs"
    lines = [
        f"{machine['board'] or machine['cpu_model'] or 'unknown processor'}, {machine['architecture']}, "
        f"{machine['cores'] or '?'} core(s), "
        + (f"{machine['memory_mib'] / 1024:.1f} GiB memory" if machine["memory_mib"] else "memory not known"),
        f"instructions for int8 products: {isa}",
    ]
    lines += ["this processor is emulated: time is not latency here"] if machine["emulated"] else []
    return lines + [f"for measuring: {note}" for note in machine["warnings"]]


def _data(one: dict[str, Any]) -> str:
    if one["whole"]:
        return f"{one['name']}: the whole set"
    more = f"; the whole set: apt install {one['package']}" if one["package"] else ""
    return f"{one['name']}: the part that ships with edgekd{more}"


def _tool(tool: dict[str, str | None]) -> str:
    return f"{tool['path'] or 'not here'} ({tool['for']})"
