"""Options that `gate` and `baseline update` share: how it is measured."""

from collections.abc import Callable
from typing import Any

import click

from edgekd.cli.duration_option import DURATION

_OPTIONS = (
    click.option("--duration", type=DURATION, default="10s", show_default=True, help="Of a round's timed calls."),
    click.option("--launches", type=click.IntRange(1, 100), default=6, show_default=True, help="Processes of a round."),
    click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of the runtime."),
    click.option("--batch", type=click.IntRange(1), help="Samples a call. Default: the model's own, or 1."),
    click.option("--runtime", metavar="NAME", help="Another one than the artifact is for; an ONNX file's is onnxruntime."),
    click.option(
        "--sensor",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="Of energy: auto, none, ina3221, tegrastats, pi5-pmic, rapl, nvml, speck or meter:FILE.",
    ),
    click.option(
        "--instructions", "counter", default="auto", show_default=True, metavar="NAME",
        help="Counter: auto, none, perf, callgrind (Valgrind, minutes) or clock (QEMU's -icount shift=0).",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of random inputs and the order."),
    click.option(
        "--time-limit", "limit_s", type=DURATION, default="10m", show_default=True, help="Of a launch, before it is ended."
    ),
)  # fmt: skip


def measuring_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add how it is measured."""
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return function


def settings_of(options: dict[str, Any], **more: Any) -> Any:
    """Return the `GateSettings` that `measuring_options` make.

    Raises:
        InputError: there is no sensor or counter of this name.
    """
    from edgekd.device.gate.rounds import GateSettings
    from edgekd.errors import InputError, device_errors_as

    names = ("launches", "threads", "sensor", "counter", "seed", "limit_s")
    with device_errors_as(InputError):
        return GateSettings(duration_s=options["duration"], **{name: options[name] for name in names}, **more)
