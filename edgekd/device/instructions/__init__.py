"""Counters of instructions: one file each, behind `InstructionCounter`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..errors import CheckFailed, DeviceError
from .absent import AbsentCounter
from .callgrind import LIMIT_S, Callgrind
from .counter import InstructionCounter, count_instructions
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


def instructions_of_a_call(
    counter: InstructionCounter,
    run: Callable[[], object],
    runtime: str,
    file: Path,
    feeds: dict[str, Array],
    threads: int,
    limit_s: float = LIMIT_S,
) -> dict[str, Any]:
    """Count the instructions of one call, in this process or, with a counter of whole processes, in others.

    Args:
        counter: What counts.
        run: The call, made here.
        runtime: What makes it elsewhere, of this file with these inputs.
        file: The model.
        feeds: The inputs of the call.
        threads: Of the runtime.
        limit_s: For a counter of whole processes, how long they may take.

    Raises:
        CheckFailed: There are several threads, or the counter cannot be read.
    """
    if threads != 1:
        raise CheckFailed("instructions are counted with one thread: --threads 1")
    if isinstance(counter, Callgrind):
        return counter.count(runtime, file, feeds, limit_s)
    return count_instructions(run, counter)
