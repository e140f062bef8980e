"""`edgekd quantize`: one way of rounding alone, static int8 where none is named."""

from typing import Any

import click

from edgekd.cli.compress import execute_and_show
from edgekd.cli.options import data_options, debug_option, make_request, model_options, work_options
from edgekd.cli.stage_recipe import option_name, stages_in_order

STATIC = ("calibrators", "keep_float", "accuracy_drop")
# Of every way: its stages, each with the options that are its settings.
WAYS: dict[str, dict[str, tuple[str, ...]]] = {
    "static": {"quantize": STATIC},
    "weights": {"quantize-weights": ("bits", "block", "keep_float")},
    "dynamic": {"quantize-dynamic": ("keep_float",)},
    "half": {"half": ("keep_float", "storage_only")},
    "mixed": {"quantize": STATIC, "half": ("storage_only",)},
}


@click.command("quantize")
@model_options
@work_options
@data_options
@click.option("--weights", type=click.Choice(["int8", "int4"]), help="Round weights alone, of linear layers.")
@click.option("--block", type=int, metavar="INPUTS", help="Of --weights: inputs that share a step. 0: all.")
@click.option("--dynamic", is_flag=True, help="Round activations at every call, to the range that they have then.")
@click.option("--half", is_flag=True, help="Go to float16 instead.")
@click.option("--mixed", is_flag=True, help="Static int8, and float16 for what is not int8.")
@click.option("--storage-only", is_flag=True, help="float16 also for a runtime that casts it to float32: fewer bytes.")
@click.option(
    "--calibrator",
    "calibrators",
    multiple=True,
    type=click.Choice(["min-max", "percentile", "entropy", "mse"]),
    help="Of static int8: try only these. Default: all, and the validation part picks.",
)
@click.option(
    "--keep-float", multiple=True, metavar="NODE|OPERATOR", help="ONNX nodes or operators that stay in float."
)
@click.option(
    "--accuracy-drop",
    type=click.FloatRange(0),
    metavar="POINTS",
    help="Of static int8: keep as few layers in float as hold the metric within this of the float network.",
)
@debug_option
def command(**options: Any) -> int:
    """Quantize MODEL to int8 with real calibration, or in another way, and export it."""
    from edgekd.errors import InputError

    asked = [way for way in WAYS if options.get(way)]
    if len(asked) > 1:
        raise InputError(f"{' and '.join(f'--{way}' for way in asked)} exclude each other; name one")
    way = asked[0] if asked else "static"
    taken = {name for names in WAYS[way].values() for name in names}
    for name in ("block", "storage_only", *STATIC):
        if options[name] not in (None, (), False) and name not in taken:
            raise InputError(f"{option_name(name)} does not go with {f'--{way}' if asked else 'static int8'}")
    options["bits"] = int(options["weights"].removeprefix("int")) if options["weights"] else None
    given = {kind: {name: options[name] for name in names} for kind, names in WAYS[way].items()}
    recipe = stages_in_order(" ".join(given), given)
    options["accuracy_drop"] = None  # the stage's own limit, which the run judges
    return execute_and_show(make_request(options, recipe), options["as_json"])
