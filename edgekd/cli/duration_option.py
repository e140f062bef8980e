"""Durations on the command line: `10`, `10s`, `5m`, `1h`."""

import click

from edgekd.device.durations import seconds


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A time in seconds, or with a unit."""

    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()
