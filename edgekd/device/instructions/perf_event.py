"""The processor's own counter of retired instructions, by Linux's `perf_event_open`.

Only user-space instructions of the calling thread are counted, which needs no rights up to `perf_event_paranoid` 2.
"""

import ctypes
import os
import platform
import struct

from ..errors import CheckFailed
from .counter import InstructionCounter

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTE_BYTES = 128
_HARDWARE, _INSTRUCTIONS = 0, 1
_EXCLUDE_KERNEL_AND_HYPERVISOR = 1 << 5 | 1 << 6
_CLOSE_ON_EXEC = 8


class PerfEvent(InstructionCounter):
    """Retired instructions of this thread."""

    name = "perf"
    how = "measured"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def find(cls) -> "PerfEvent | str":
        """Return the counter, or why there is none."""
        number = _SYSCALL.get(platform.machine())
        if platform.system() != "Linux" or number is None:
            return "hardware counters are read on Linux, x86-64 and arm64"
        attribute = ctypes.create_string_buffer(
            struct.pack(
                "=IIQQQQQ", _HARDWARE, _ATTRIBUTE_BYTES, _INSTRUCTIONS, 0, 0, 0, _EXCLUDE_KERNEL_AND_HYPERVISOR
            ),
            _ATTRIBUTE_BYTES,
        )
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.syscall(number, attribute, 0, -1, -1, _CLOSE_ON_EXEC)
        if descriptor < 0:
            return f"this machine offers no counter of instructions: {os.strerror(ctypes.get_errno())}"
        return cls(descriptor)

    def read(self) -> int:
        """Return the instructions of this thread since the counter was opened."""
        try:
            return int.from_bytes(os.read(self._descriptor, 8), "little")
        except OSError as error:
            raise CheckFailed(f"the counter of instructions cannot be read: {error.strerror}") from error

    def __del__(self) -> None:
        """Close the counter."""
        os.close(self._descriptor)
