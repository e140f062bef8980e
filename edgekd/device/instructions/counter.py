"""What every instruction counter offers: how many instructions this process has executed so far.

An instruction count is no latency: it knows no cache, no memory and no clock. But it hardly depends on what else the machine
does, so that on a shared machine it shows a change of a few percent that times do not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ..latency import garbage_collection_off

_WARM_UP_CALLS = 20
_CALLS = 100


class InstructionCounter(ABC):
    """A counter of executed instructions. `how` is `measured` by hardware or `emulated`."""

    name: str
    how: str

    @abstractmethod
    def read(self) -> int:
        """Return the instructions since some moment in the past.

        Raises:
            CheckFailed: The counter cannot be read.
        """


def count_instructions(run: Callable[[], object], counter: InstructionCounter, calls: int = _CALLS) -> dict[str, Any]:
    """Return the median count of one call, after warm-up, with the counts between which half of all calls lie.

    Raises:
        CheckFailed: The counter cannot be read.
    """
    with garbage_collection_off():
        for _ in range(_WARM_UP_CALLS):
            run()
        counts = []
        for _ in range(calls):
            before = counter.read()
            run()
            counts.append(counter.read() - before)
    low, median, high = (float(value) for value in np.quantile(counts, (0.25, 0.5, 0.75)))
    return {
        "per_call": median,
        "low": low,
        "high": high,
        "calls": calls,
        "counter": counter.name,
        "how": counter.how,
    }
