"""Start launches: each is a process of its own, and however it ends, one message says so."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Array, read_arrays, write_arrays
from ..errors import CheckFailed, RuntimeMissing
from ..own_process import python_command
from . import launch
from .launch import JOB, RESULT, ROLE, TIMES
from .subject import Subject

_ROLES = {"candidate": "the new model", "baseline": "the baseline"}


@dataclass(frozen=True)
class Launch:
    """What one launch gave: its result, as `launch.measure_launch` returns it, and the times of all calls in ms by model."""

    result: dict[str, Any]
    times_ms: dict[str, Array]


def start(
    subjects: Mapping[str, Subject],
    *,
    threads: int,
    duration_s: float,
    seed: int = 0,
    counter: str = "none",
    sensor: str | None = None,
    limit_s: float = 600.0,
) -> Launch:
    """Measure one or two models in a process of their own.

    Args:
        subjects: By role, `candidate` and `baseline`, in the order in which they are opened.
        threads: Of the runtime.
        duration_s: Of the timed calls of all models together, in seconds.
        seed: Of the order of the blocks.
        counter: Of instructions; a name of `instructions`.
        sensor: A name of `sensors`, for a launch that measures energy alone.
        limit_s: After so many seconds it is ended.

    Raises:
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        CheckFailed: It crashed, was killed, took too long, or the runtime refuses a model; of two the message says which.
    """
    job = {
        "models": {
            role: {
                "runtime": one.runtime,
                "file": str(one.file.absolute()),
                "folder": one.folder and str(one.folder.absolute()),
            }
            for role, one in subjects.items()
        },
        "threads": threads,
        "duration_s": duration_s,
        "seed": seed,
        "counter": counter,
        "sensor": sensor,
        "limit_s": limit_s,
    }
    with tempfile.TemporaryDirectory(prefix="edgekd-launch-") as name:
        place = Path(name)
        (place / JOB).write_text(json.dumps(job), encoding="utf-8")
        for role, one in subjects.items():
            write_arrays(place / f"{role}.npz", one.feeds)
        try:
            done = subprocess.run(
                python_command(launch.__name__, name),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=limit_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CheckFailed(
                f"{_who(subjects, place)} did not come to an end within {limit_s:g} s (--time-limit)"
            ) from error
        result = _read(place / RESULT)
        if result is None:
            raise CheckFailed(f"{_who(subjects, place)} {_ending(done.returncode)}{_last_words(done.stderr)}")
        if "error" in result:
            kind = RuntimeMissing if result["exit_code"] == RuntimeMissing.exit_code else CheckFailed
            raise kind(f"{_who(subjects, place)}: {result['error']}" if len(subjects) > 1 else result["error"])
        return Launch(result, read_arrays(place / TIMES))


def _who(subjects: Mapping[str, Subject], place: Path) -> str:
    """Return the model that had the turn; both, where two were timed in turns."""
    if len(subjects) == 1:
        (one,) = subjects.values()
        return f"{one.file.name} in {one.runtime}"
    try:
        role = (place / ROLE).read_text(encoding="utf-8")
    except OSError:
        role = ""
    return " or ".join(
        f"{_ROLES[name]} ({one.file} in {one.runtime})" for name, one in subjects.items() if role in ("", name)
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended its process with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "was killed (SIGKILL), most likely for want of memory"
    return f"crashed ({name})"


def _last_words(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:200]}" if lines else ""
