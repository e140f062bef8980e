"""The clock of an emulated machine that ticks once an instruction, as QEMU's `-icount shift=0` makes it.

In such a machine a nanosecond is an instruction, so what any clock tells is a count. Nothing inside the machine tells it from
one with a real clock: a person says so.
"""

import time
from pathlib import Path

from .counter import InstructionCounter

_SIGNS = {"proc/device-tree/compatible": "linux,dummy-virt", "sys/class/dmi/id/sys_vendor": "QEMU"}


class InstructionClock(InstructionCounter):
    """One nanosecond of this machine's clock is one instruction."""

    name = "clock"
    how = "emulated"

    @classmethod
    def find(cls, root: Path = Path("/")) -> "InstructionClock | str":
        """Return the counter, or why there is none."""
        for file, sign in _SIGNS.items():
            path = root / file
            if path.is_file() and sign in path.read_text(encoding="utf-8", errors="replace"):
                return cls()
        return "this is no machine of QEMU, whose clock could count instructions (-icount shift=0)"

    def read(self) -> int:
        """Return the instructions since some moment in the past."""
        return time.perf_counter_ns()
