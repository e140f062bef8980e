"""Errors of the device half: one message a person can act on, and the exit code that goes with it."""


class DeviceError(Exception):
    """Bad usage or input; base of every error raised on purpose. `exit_code` is the process's exit code."""

    exit_code = 2


class CheckFailed(DeviceError):
    """A check did not pass, or a figure could not be obtained."""

    exit_code = 3


class RuntimeMissing(DeviceError):
    """The runtime (or numpy) is not installed, does not load, or has the wrong version."""

    exit_code = 4
