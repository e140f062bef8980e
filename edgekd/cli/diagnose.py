"""`edgekd diagnose`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd.cli.options import data_options, debug_option, json_option, model_options, opening_of

if TYPE_CHECKING:
    from edgekd.verbs.diagnose import Diagnosis, LayerDiagnosis


@click.command("diagnose")
@model_options
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="FLOAT_MODEL",
    help="The float network. Default: the one that the run quantized.",
)
@data_options
@click.option(
    "--samples", type=click.IntRange(1), default=256, show_default=True, help="Of the validation part, to measure on."
)
@click.option("--layers", type=click.IntRange(1), default=15, show_default=True, help="Shown; --json gives all.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Default: all cores.")
@json_option
@debug_option
def command(
    data: str | None,
    metric: str | None,
    reference: Path | None,
    samples: int,
    layers: int,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which layers of MODEL, an int8 file or a run directory, lose accuracy or do not run in int8.

    Every layer is rounded alone, and the noisiest ones are tried in float. The noise of a layer is its share of the sum of
    such errors at the network's outputs.
    """
    from edgekd.report.console import print_json, progress
    from edgekd.verbs.diagnose import diagnose

    found = diagnose(
        options["model"],
        data,
        opening=opening_of(options),
        reference=reference,
        metric=metric,
        samples=samples,
        threads=threads,
        progress=progress,
    )
    if as_json:
        print_json(found.to_json())
    else:
        _show(found, layers)


def _show(found: "Diagnosis", count: int) -> None:
    from edgekd.report.console import print_table, results

    unit = f" {found.unit}" if found.unit else ""
    results.print(
        f"{found.model}: {found.metric} {found.float_score:.4g} in float, {found.score:.4g}{unit} in int8; "
        f"{found.sqnr_db:.1f} dB at the outputs; {found.samples:,} samples of {found.data}"
    )
    for note in found.notes:
        results.print(f"note: {note}")
    results.print()
    head = ["layer", "operator", ">noise", f">alone, {found.unit or found.metric}", ">alone, dB", ">output, dB"]
    head += [">cosine", ">weights, dB", ">max / rms", ">MACs"]
    print_table(head, [_cells(layer) for layer in found.layers[:count]])
    if len(found.layers) > count:
        results.print(f"{len(found.layers) - count} more; --layers, or --json for all")
    said = [f"{layer.name}: {layer.advice}" for layer in found.layers if layer.advice]
    if said:
        results.print("\nWhat to do")
        for line in said:
            results.print(f"  {line}")
    total = sum(one.time_us for one in found.kernels)
    share = sum(one.share for one in found.kernels if one.integers)
    results.print(
        f"\nIn the runtime: {total / 1000:.3g} ms, {share:.0%} of it in integers, {found.conversions:.0%} in rounding and layout"
    )
    floats = [one for one in found.kernels if one.reason is not None]
    if floats:
        print_table(
            ["not in int8", "operator", ">time", "why"],
            [(one.name, one.operator, f"{one.share:.1%}", one.reason or "") for one in floats],
        )


def _cells(layer: "LayerDiagnosis") -> tuple[str, ...]:
    def shown(value: float | None, digits: int = 1) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    return (
        layer.name, layer.operator, f"{layer.noise:.1%}", shown(layer.alone_score, 2), shown(layer.alone_sqnr_db),
        shown(layer.output_sqnr_db), shown(layer.output_cosine, 4), shown(layer.weight_sqnr_db),
        shown(layer.dynamic_range), f"{layer.macs:.1%}",
    )  # fmt: skip
