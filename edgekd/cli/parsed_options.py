"""Values of options that the device half parses, too: durations (`10`, `10s`, `5m`, `1h`), sizes (`640x480`) and shapes."""

from collections.abc import Callable
from typing import Any

import click

from edgekd.device.durations import seconds
from edgekd.device.frame_size import frame_size
from edgekd.device.shapes import named_shape


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """What a function makes of the text; its ValueError is what the person sees."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value."""
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Parsed("time", seconds)
FRAME = Parsed("WxH", frame_size)
SHAPE = Parsed("[NAME=]SHAPE", named_shape)
