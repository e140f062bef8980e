"""What a person reads when something fails."""

import errno
from importlib import metadata

from edgekd import processes
from edgekd.device.errors import DeviceError
from edgekd.errors import EdgekdError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_WRONG_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
_LOST = ("gloo", "Connection closed by peer", "NCCL", "store->")  # how torch.distributed says that a process is gone
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def explain_failure(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code for an exception."""
    if isinstance(error, (EdgekdError, DeviceError)):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return _explain_os_error(error)
    if "No space left on device" in str(error):  # as libraries in other languages say it
        return _explain_os_error(OSError(errno.ENOSPC, str(error)))
    if processes.count() > 1 and any(words in str(error) for words in _LOST):
        return "another of the processes ended; the same command goes on after the last whole epoch", 3
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else "no message"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    ):
        return "out of memory; lower --batch, or batch_size or [data] limit of the recipe", 3
    if isinstance(error, ModuleNotFoundError) and (line := install_line(error.name or "")):
        return f"{error.name} is not installed: {line}", 4
    return f"internal error, please report it: {type(error).__name__}: {first} (--debug shows where)", 3


def _explain_os_error(error: OSError) -> tuple[str, int]:
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return f"{where}the disk is full; free some space, the same command goes on from the last finished stage", 3
    if error.errno in _FORBIDDEN:
        return f"{where}{reason}; choose a place that can be read and written (-o)", 2
    return f"{where}{reason}", 2 if error.errno in _WRONG_PLACE else 3


def install_line(module: str) -> str | None:
    """Return the pip line that brings a module which edgekd or one of its extras requires, else None."""
    from edgekd.verbs.doctor import requirements

    wanted = module.split(".")[0].replace("_", "-").lower()
    try:
        found = [one for one in requirements() if one.name.replace("_", "-").lower() == wanted]
    except metadata.PackageNotFoundError:
        return None
    return found[0].install_line if found else None
