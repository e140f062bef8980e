"""Errors a person meets: one message that says what is wrong, where, and what to do next."""

import contextlib
from collections.abc import Iterator

from edgekd.device.errors import CheckFailed, DeviceError, RuntimeMissing


class EdgekdError(Exception):
    """Base of every error that edgekd raises on purpose; `exit_code` is the process's exit code."""

    exit_code = 3


class InputError(EdgekdError):
    """Bad usage or input: a file, a setting, an option or an order of stages that cannot work."""

    exit_code = 2


class BudgetMissed(EdgekdError):
    """A budget cannot be met, or was not; the message says how close it came."""

    exit_code = 1


class StageError(EdgekdError):
    """A stage failed, or a figure could not be obtained."""

    exit_code = 3


class ToolMissing(EdgekdError):
    """A required tool or optional package is not installed; the message gives the install line."""

    exit_code = 4


@contextlib.contextmanager
def device_errors_as(kind: type[EdgekdError]) -> Iterator[None]:
    """Raise the device half's errors, which know nothing of ours, as `kind`.

    Raises:
        ToolMissing: the runtime is missing.
        StageError: a check did not pass.
        EdgekdError: of `kind`, for everything else.
    """
    try:
        yield
    except RuntimeMissing as error:
        raise ToolMissing(str(error)) from error
    except CheckFailed as error:
        raise StageError(str(error)) from error
    except DeviceError as error:
        raise kind(str(error)) from error
