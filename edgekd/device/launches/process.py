"""A process of its own measures models; however it ends, one message says so, and it never outlives the one that started it.

```
job.json, a .npz of inputs a model ──▶ main(folder) of a module ──▶ result.json     what it prints tells how far it is
```
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..arrays import read_arrays, write_arrays
from ..errors import CheckFailed, DeviceError, RuntimeMissing
from ..own_process import python_command
from .subject import Subject

_JOB, _RESULT, _ROLE, _STDERR = "job.json", "result.json", "role.txt", "stderr.txt"
_ROLES = {"candidate": "the new model", "baseline": "the baseline"}
_ERRORS = {kind.exit_code: kind for kind in (DeviceError, CheckFailed, RuntimeMissing)}
_SHARE_OF_LIMIT = 0.9
_OUT_OF_MEMORY = (
    "MemoryError",
    "bad_alloc",
    "ailed to allocate",
    "nable to allocate",
    "out of memory",
    "Out of memory",
)


def run_apart(
    module: str,
    subjects: Mapping[str, Subject],
    settings: Mapping[str, Any],
    place: Path,
    *,
    limit_s: float,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Call `main` of a module of this package in a process of its own; return what it gave to `answer`.

    Args:
        module: Its full name.
        subjects: The models by role, in the order in which they are opened.
        settings: Plain JSON values. The job holds them, `models`, and `limit_s`.
        place: An empty folder for the files of both.
        limit_s: After so many seconds it is ended.
        say: Takes each line that it prints.

    Raises:
        CheckFailed: It crashed, was killed, ran out of memory or took too long; or a check of its own failed.
        DeviceError: What it raised itself: bad input, or a runtime that is missing.
    """
    models = {
        role: {"runtime": one.runtime, "file": str(one.file.absolute()), "folder": one.folder and str(one.folder.absolute())}
        for role, one in subjects.items()
    }  # fmt: skip
    (place / _JOB).write_text(json.dumps({"models": models, "limit_s": limit_s, **settings}), encoding="utf-8")
    for role, one in subjects.items():
        write_arrays(place / f"{role}.npz", one.feeds)
    code, late = _run(python_command(module, str(place)), place / _STDERR, limit_s, say)
    try:
        result: dict[str, Any] = json.loads((place / _RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        who = _who(subjects, place)
        if late:
            raise CheckFailed(f"{who} did not come to an end within {limit_s:g} s (--time-limit)") from None
        raise CheckFailed(f"{who} {_ending(code, (place / _STDERR).read_text('utf-8', 'replace'))}") from None
    if "error" in result:
        of_which = f"{_who(subjects, place)}: " if len(subjects) > 1 else ""
        raise _ERRORS[result["exit_code"]](f"{of_which}{result['error']}")
    return result


def answer(folder: str, measure: Callable[[dict[str, Any], Path], dict[str, Any]]) -> None:
    """Do in this process what `run_apart` was asked for: call `measure` with the job and the folder, and hand back what it returns.

    A `DeviceError` reaches the other process as such; a runtime's that is about memory as a `CheckFailed`.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    place = Path(folder)
    job = json.loads((place / _JOB).read_text(encoding="utf-8"))
    try:
        result = measure(job, place)
    except DeviceError as error:
        about_memory = any(words in str(error) for words in _OUT_OF_MEMORY)
        code = CheckFailed.exit_code if about_memory else error.exit_code
        result = {"error": str(error), "exit_code": code}
    beside = place / f"{_RESULT}.tmp"
    beside.write_text(json.dumps(result), encoding="utf-8")
    beside.replace(place / _RESULT)


def counting_until(job: Mapping[str, Any]) -> float:
    """Return the `time.monotonic()` in s after which a process that has just begun counts no more, or its times would be lost with it."""
    return time.monotonic() + _SHARE_OF_LIMIT * float(job["limit_s"])


def turn_of(role: str, place: Path) -> None:
    """Note which model has the turn, for whoever must say which one took its process along; "" while they take turns."""
    (place / _ROLE).write_text(role, encoding="utf-8")


def feeds_of(role: str, place: Path) -> dict[str, Any]:
    """Return the inputs of a model of the job, by name."""
    return read_arrays(place / f"{role}.npz")


def _run(command: list[str], stderr: Path, limit_s: float, say: Callable[[str], None]) -> tuple[int, bool]:
    """Return the exit code, and whether the time was up."""
    with (
        open(stderr, "wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            text=True, encoding="utf-8", errors="replace", start_new_session=True,
            env={**os.environ, "TMPDIR": str(stderr.parent)},  # what a process that is killed leaves goes with the folder
        ) as process,
    ):  # fmt: skip
        late = threading.Event()

        def stop() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(limit_s, stop)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                say(line.rstrip("\n"))
            return process.wait(), late.is_set()
        finally:
            timer.cancel()
            _kill(process)


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process with those that it has started."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # until the other end is closed; no buffer, whose lock Python wants when it ends
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)  # with those that it has started
    os._exit(1)  # Windows


def _who(subjects: Mapping[str, Subject], place: Path) -> str:
    """Return the model that had the turn; both, where two were timed in turns."""
    if len(subjects) == 1:
        (one,) = subjects.values()
        return f"{one.file.name} in {one.runtime}"
    try:
        role = (place / _ROLE).read_text(encoding="utf-8")
    except OSError:
        role = ""
    named = [f"{_ROLES[name]} ({one.file} in {one.runtime})" for name, one in subjects.items() if role in ("", name)]
    return " or ".join(named)


def _ending(code: int, stderr: str) -> str:
    lines = stderr.strip().splitlines()
    last = lines[-1][:200] if lines else ""
    if any(words in last for words in _OUT_OF_MEMORY):
        return f"ran out of memory: {last}"
    words = f": {last}" if last else ""
    if code >= 0:
        return f"ended its process with exit code {code}{words}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return f"was killed (SIGKILL), most likely for want of memory{words}"
    return f"crashed ({name}){words}"
