"""The runtimes: one file each, imported when it is asked for.

A file here offers `version() -> str`, `open_session(path, threads) -> Session` and `node_times(path, feeds, threads)`; its name is
the runtime's name. One that needs special hardware also offers `usable() -> bool`.
"""

import importlib
import pkgutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from ..arrays import Array
from ..errors import DeviceError
from .session import NodeTime, Session


def known_runtimes() -> list[str]:
    """Return the names of the runtimes that have a file here, installed on this machine or not."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "session")


def usable_here(runtime: str) -> bool:
    """Return whether a runtime has a file here, and the hardware that it needs is on this machine."""
    if runtime not in known_runtimes():
        return False
    usable: Callable[[], bool] | None = getattr(_module(runtime), "usable", None)
    return usable is None or usable()


def runtime_version(runtime: str) -> str:
    """Return the installed version of a runtime.

    Raises:
        DeviceError: The runtime is not known.
        RuntimeMissing: It is not installed.
    """
    version: str = _module(runtime).version()
    return version


def open_session(runtime: str, path: Path, threads: int = 1) -> Session:
    """Open a model file in a runtime with this many threads.

    Raises:
        DeviceError: The runtime is not known, or it cannot read the file.
        RuntimeMissing: It is not installed.
    """
    if threads < 1:
        raise DeviceError(f"threads must be 1 or more, not {threads}")
    module = _module(runtime)
    if not path.is_file():
        raise DeviceError(f"{path} does not exist")
    session: Session = module.open_session(path, threads)
    return session


def open_timed(runtime: str, path: Path, threads: int = 1) -> tuple[Session, float]:
    """Open a model file as `open_session` does; return the session, and how many ms that took without importing the runtime.

    Raises:
        DeviceError: The runtime is not known, or it cannot read the file.
        RuntimeMissing: It is not installed.
    """
    runtime_version(runtime)  # imports it, which takes up to a hundred times as long
    started = time.perf_counter()
    session = open_session(runtime, path, threads)
    return session, (time.perf_counter() - started) * 1e3


def node_times(runtime: str, path: Path, feeds: dict[str, Array], threads: int) -> list[NodeTime]:
    """Run a file and return every node that ran, with its time, by the runtime's own profile, in their order.

    Raises:
        DeviceError: The runtime is not known, or it cannot run the file.
        RuntimeMissing: It is not installed.
    """
    times: list[NodeTime] = _module(runtime).node_times(path, feeds, threads)
    return times


def check_known(runtime: str) -> None:
    """Check that a runtime has a file here.

    Raises:
        DeviceError: It has none; the message names those that have.
    """
    known = known_runtimes()
    if runtime not in known:
        raise DeviceError(f"unknown runtime {runtime!r}; known: {', '.join(known)}")


def _module(runtime: str) -> ModuleType:
    check_known(runtime)
    return importlib.import_module(f".{runtime}", __name__)
