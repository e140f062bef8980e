"""Errors of the device half: one message a person can act on, and the exit code that goes with it."""

from collections.abc import Callable
from typing import Any

NOT_ASKED = "not asked for"  # how the reason of a figure begins that nobody wants


class DeviceError(Exception):
    """Bad usage or input; base of every error raised on purpose. `exit_code` is the process's exit code."""

    exit_code = 2


class CheckFailed(DeviceError):
    """A check did not pass, or a figure could not be obtained."""

    exit_code = 3


class RuntimeMissing(DeviceError):
    """The runtime (or numpy) is not installed, does not load, or has the wrong version."""

    exit_code = 4


def figure_or_reason(name: str, obtain: Callable[[], Any], failure: type[DeviceError] = CheckFailed) -> dict[str, Any]:
    """Return a figure under its name; where it cannot be obtained None, and why under `<name>_absent`."""
    try:
        return {name: obtain(), f"{name}_absent": None}
    except failure as error:
        return {name: None, f"{name}_absent": str(error)}
