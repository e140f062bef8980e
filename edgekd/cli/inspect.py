"""`edgekd inspect`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import (
    TargetName,
    data_options,
    debug_option,
    json_option,
    model_options,
    opening_of,
    sensitivity_options,
)

if TYPE_CHECKING:
    from edgekd.stages.prune.groups import Group
    from edgekd.verbs.inspect import Inspection

_WIDTH = 100  # of a terminal, in characters
KINDS = {
    "module": "a whole network, pickled by torch.save",
    "state-dict": "weights, pickled by torch.save",
    "safetensors": "weights, safetensors",
    "torchscript": "TorchScript",
    "exported-program": "a torch.export archive",
    "onnx": "ONNX",
    "run directory": "the network that a run left, as ONNX",
}


@click.command("inspect")
@model_options
@click.option(
    "-t", "--target", "targets", type=TargetName(), multiple=True, help="What this one refuses. Default: every target."
)
@sensitivity_options
@data_options
@json_option
@debug_option
def command(
    targets: tuple[str, ...],
    sensitivity: bool,
    samples: int,
    data: str | None,
    metric: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Show layers, parameters, MACs, prunable groups of MODEL, and what targets refuse.

    MODEL is a model file, an artifact folder, or a run directory, whose last state is shown: the network with its groups;
    the file alone where it is rounded, or where the network needs --model or --trust again. Nothing in the file is run. What
    a pickled file asks for is listed even where it is not trusted; then the exit code is 2.
    """
    from dataclasses import replace

    from edgekd.report.console import print_json, progress, warn
    from edgekd.target import load_target
    from edgekd.verbs.inspect import inspect_model
    from edgekd.verbs.sensitivity import sensitivity_of
    from edgekd.verbs.targets import readable_targets

    chosen, broken = readable_targets()
    if targets:
        chosen, broken = [load_target(name)[0] for name in targets], []
    for message in broken:
        warn(f"left out: {message}")
    opening = opening_of(options)
    found = inspect_model(options["model"], opening, chosen)
    if sensitivity and not found.problem:
        asked = chosen if targets else []
        tried = sensitivity_of(options["model"], opening, asked, data, metric, samples, progress)
        found = replace(found, sensitivity=tried)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    if found.problem:
        click.echo(f"edgekd: {found.problem}", err=True)
    return 2 if found.problem else 0


def _show(found: "Inspection") -> None:
    from edgekd.report.console import results, say
    from edgekd.report.sensitivity import show_sensitivity

    results.print(f"{found.name}: {KINDS[found.format]}, {found.bytes / 1000:,.1f} kB")
    for line in _facts(found):
        results.print(f"  {line}")
    layers = [
        (
            layer.name,
            layer.type,
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs:,}" if layer.macs else "",
            _shape(layer.shape) if layer.shape else "",
        )
        for layer in found.layers
    ]
    _section(["node" if found.format == "onnx" else "layer", "type", ">parameters", ">MACs", "output"], layers)
    _section(["tensor", "shape"], [(name, _shape(shape)) for name, shape in (found.tensors or {}).items()])
    _show_groups(found.groups or ())
    if found.sensitivity is not None:
        show_sensitivity(found.sensitivity)
    if found.groups == ():
        results.print("\nno layer can lose channels: pruning has nothing to cut")
    refusals = [(one.target, one.runtime, "; ".join(one.reasons) or "nothing found") for one in found.targets]
    _section(["target", "runtime", "would refuse"], refusals)
    for note in found.notes:
        say(f"note: {note}")


def _show_groups(groups: "Sequence[Group]") -> None:
    """Print the prunable groups, each with as many of the layers that change with it as fit on the line."""
    from edgekd.report.console import results

    room = _WIDTH - max((len(group.root) for group in groups), default=0) - len("  channels    and 999 more")
    members = [_fitting(group.members, room) for group in groups]
    rows = [(group.root, str(group.channels), one) for group, one in zip(groups, members, strict=True)]
    _section(["prunable group", ">channels", "layers that change with it"], rows)
    if any(one != ", ".join(group.members) for group, one in zip(groups, members, strict=True)):
        results.print("--json lists them all")


def _fitting(names: Sequence[str], room: int) -> str:
    """Return the first names that fit into so many characters, one at least, and how many there are besides."""
    count = len(names)
    while count > 1 and len(", ".join(names[:count])) > room:
        count -= 1
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if count < len(names) else "")


def _section(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table without its empty columns, or nothing where it has no rows."""
    from edgekd.report.console import print_table, results

    if rows:
        used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
        results.print()
        print_table([columns[number] for number in used], [[row[number] for number in used] for row in rows])


def _facts(found: "Inspection") -> list[str]:
    lines = []
    if found.precision and found.format == "onnx":
        lines.append(f"{found.precision}, opset {found.opset}")
    if found.parameters is not None:
        macs = "" if found.macs is None else f", {found.macs:,} multiply-accumulates a sample"
        lines.append(f"{found.parameters:,} parameters{macs}")
    for role, specs in (("input", found.inputs), ("output", found.outputs)):
        lines += [f"{role} {spec.name}: {_shape(('N', *spec.shape[1:]))} {spec.dtype}" for spec in specs]
    if found.batch is not None:
        lines.append(f"the batch N is fixed to {found.batch}")
    if found.operators:
        lines.append("ONNX operators: " + ", ".join(f"{count} {name}" for name, count in found.operators.items()))
    for title, trusted in (("asks for (trusted)", True), ("asks for (NOT trusted)", False)):
        names = [name for name, answer in (found.asks_for or {}).items() if answer is trusted]
        lines += [f"{title}: {', '.join(names)}"] if names else []
    return lines


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) if shape else "a scalar"
