"""What a person reads when something fails."""

import errno

from edgekd.device.errors import DeviceError
from edgekd.errors import EdgekdError


def explain_failure(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code for an exception."""
    if isinstance(error, (EdgekdError, DeviceError)):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{where}the disk is full; free some space, the same command goes on from the last finished stage", 3
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"{where}{error.strerror}; choose a place that can be written with -o", 2
        return f"{where}{error.strerror or error}", 3
    if isinstance(error, MemoryError):
        return "out of memory; lower batch_size or [data] limit", 3
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else "no message"
    return f"internal error, please report it: {type(error).__name__}: {first} (--debug shows where)", 3
