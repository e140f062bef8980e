"""Instructions of whole processes, counted by Valgrind: for machines that offer no counter of their processor.

```
 process A:  Python, runtime, model,  1 call    \
                                                 >  (B - A) / 10 = one call; all else is the same, to the instruction
 process B:  Python, runtime, model, 11 calls   /
```
Valgrind runs a program on a processor of its own, without AVX-512: kernels may be others than those that run natively. It takes
a minute or two.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ..arrays import Array, read_arrays, write_arrays
from ..errors import CheckFailed
from ..own_process import python_command
from .counter import InstructionCounter

_CALLS = (1, 11)
_COLLECTED = re.compile(r"Collected : (\d+)")
LIMIT_S = 1800.0


class Callgrind(InstructionCounter):
    """Counts processes, not a moment of one."""

    name = "callgrind"
    how = "emulated"

    def __init__(self, valgrind: str) -> None:
        self._valgrind = valgrind

    @classmethod
    def find(cls) -> "Callgrind | str":
        """Return the counter, or why there is none."""
        valgrind = shutil.which("valgrind")
        return cls(valgrind) if valgrind else "valgrind is not installed (apt-get install valgrind)"

    def read(self) -> int:
        """Refuse: there is no count of this moment."""
        raise CheckFailed("callgrind counts whole processes")

    def count(self, runtime: str, file: Path, feeds: dict[str, Array], limit_s: float = LIMIT_S) -> dict[str, Any]:
        """Count the instructions of one call, as `counter.count_instructions` returns them.

        Raises:
            CheckFailed: Valgrind does not run the model, or the two processes take longer than `limit_s` together.
        """
        until = time.monotonic() + limit_s
        with tempfile.TemporaryDirectory(prefix="edgekd-callgrind-") as name:
            inputs = Path(name) / "inputs.npz"
            write_arrays(inputs, feeds)
            few, many = (self._collected(runtime, file, inputs, calls, until) for calls in _CALLS)
        made = _CALLS[1] - _CALLS[0]
        one = (many - few) / made
        return {"per_call": one, "low": one, "high": one, "calls": made, "counter": self.name, "how": self.how}

    def _collected(self, runtime: str, file: Path, inputs: Path, calls: int, until: float) -> int:
        valgrind = [self._valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command = python_command(__name__, runtime, str(file), str(inputs), str(calls))
        environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                [*valgrind, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=max(until - time.monotonic(), 0.0), env=environment, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CheckFailed(
                f"valgrind did not count {file.name} in {runtime} within the time it had (--time-limit gives more)"
            ) from error
        found = _COLLECTED.search(done.stderr)
        if done.returncode != 0 or found is None:
            said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("==")]
            raise CheckFailed(
                f"valgrind does not run {file.name} in {runtime}: {(said or ['no reason is given'])[-1][:200]}"
            )
        return int(found[1])


def main(runtime: str, file: str, inputs: str, calls: str) -> None:
    """Open a model and call it so many times; what runs under Valgrind."""
    from ..runtimes import open_session

    session, feeds = open_session(runtime, Path(file)), read_arrays(Path(inputs))
    for _ in range(int(calls)):
        session.run(feeds)
