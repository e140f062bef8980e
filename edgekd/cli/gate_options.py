"""Options that `gate` and `baseline update` share: how it is measured."""

from collections.abc import Callable
from typing import Any

import click

from edgekd.cli.options import session_options, with_options
from edgekd.cli.parsed_options import DURATION

_OPTIONS = (
    click.option("--duration", type=DURATION, default="10s", show_default=True, help="Of a round's timed calls."),
    click.option("--launches", type=click.IntRange(1, 100), default=6, show_default=True, help="Processes of a round."),
    session_options,
    click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of random inputs and the order."),
    click.option(
        "--time-limit", "limit_s", type=DURATION, default="10m", show_default=True, help="Of a launch, before it is ended."
    ),
)  # fmt: skip


def measuring_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add how it is measured."""
    return with_options(function, _OPTIONS)


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
