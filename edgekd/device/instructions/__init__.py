"""Counters of instructions: one file each, behind `InstructionCounter`."""

from collections.abc import Callable

from ..errors import DeviceError
from .absent import AbsentCounter
from .callgrind import Callgrind
from .counter import InstructionCounter
from .instruction_clock import InstructionClock
from .perf_event import PerfEvent

_FINDERS: dict[str, Callable[[], InstructionCounter | str]] = {
    "perf": PerfEvent.find,
    "callgrind": Callgrind.find,
    "clock": InstructionClock.find,
}
NAMES = ("auto", "none", *_FINDERS)


def find_counter(name: str = "auto") -> InstructionCounter:
    """Return the counter of this name; `auto` is the processor's own, or one that says why there is none.

    Valgrind, which takes minutes, and the clock of an emulated machine are taken only where they are named.

    Raises:
        DeviceError: The name is not known, or that counter is not here.
    """
    if name == "none":
        return AbsentCounter("not asked for")
    if name not in NAMES:
        raise DeviceError(f"unknown counter of instructions {name!r}; known: {', '.join(NAMES)}")
    found = _FINDERS["perf" if name == "auto" else name]()
    if isinstance(found, InstructionCounter):
        return found
    if name == "auto":
        return AbsentCounter(found)
    raise DeviceError(f"there is no counter {name}: {found}")
