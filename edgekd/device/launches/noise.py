"""How much other work disturbed a measurement: what the kernel counted while it went on."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..machine import read_machine

_RUN_DELAY_PERCENT = 2.0
_STEAL_PERCENT = 2.0
_PRESSURE_PERCENT = 10.0


@dataclass(frozen=True)
class Counters:
    """Counters of the kernel at one moment; what it does not tell is None.

    `waited_ns` is how long this process was ready to run and had no core, `pressure_us` how long any process was.
    """

    time_ns: int
    waited_ns: int | None
    involuntary_switches: int | None
    pressure_us: int | None
    stolen: int | None
    ticks: int | None


@dataclass(frozen=True)
class Noise:
    """What disturbed a measurement; shares are in percent of its time.

    `waited_percent` is the time for which this process was ready to run and had no core, `pressure_percent` for which any was,
    `stolen_percent` for which the host of a virtual machine gave the core to another one.
    """

    seconds: float
    waited_percent: float | None
    involuntary_switches: int | None
    pressure_percent: float | None
    stolen_percent: float | None
    throttled: tuple[str, ...]
    temperature_celsius: float | None
    clock_mhz: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def read_counters(root: Path = Path("/")) -> Counters:
    """Read the counters of this process and machine."""
    delays = _numbers(root / "proc/self/schedstat")
    ticks = _numbers(root / "proc/stat", "cpu ")
    pressure = _text(root / "proc/pressure/cpu").partition("total=")[2].split()
    return Counters(
        time_ns=time.perf_counter_ns(),
        waited_ns=delays[1] if len(delays) > 1 else None,
        involuntary_switches=_involuntary_switches(),
        pressure_us=int(pressure[0]) if pressure and pressure[0].isdigit() else None,
        stolen=ticks[7] if len(ticks) > 7 else None,
        ticks=sum(ticks[:8]) if len(ticks) > 7 else None,
    )


def noise_between(before: Counters, after: Counters) -> Noise:
    """Return what disturbed what went on between two moments, and the machine's state at the end."""
    seconds = (after.time_ns - before.time_ns) / 1e9
    state = read_machine()

    def share(one: int | None, other: int | None, whole: float) -> float | None:
        return None if one is None or other is None or whole <= 0 else 100.0 * (other - one) / whole

    switches, later = before.involuntary_switches, after.involuntary_switches
    return Noise(
        seconds=seconds,
        waited_percent=share(before.waited_ns, after.waited_ns, seconds * 1e9),
        involuntary_switches=None if switches is None or later is None else later - switches,
        pressure_percent=share(before.pressure_us, after.pressure_us, seconds * 1e6),
        stolen_percent=share(before.stolen, after.stolen, (after.ticks or 0) - (before.ticks or 0)),
        throttled=state.throttled or (),
        temperature_celsius=state.temperature_celsius,
        clock_mhz=state.clock_mhz,
    )


def disturbances(noises: list[dict[str, Any]]) -> list[str]:
    """Return what disturbed one of several measurements enough to show in a percentile of wall time."""
    found = []
    for name, most, words in (
        ("waited_percent", _RUN_DELAY_PERCENT, "it waited for a core"),
        ("pressure_percent", _PRESSURE_PERCENT, "some process waited for a core"),
        ("stolen_percent", _STEAL_PERCENT, "the host took the core away"),
    ):
        worst = max((one[name] for one in noises if one[name] is not None), default=0.0)
        if worst > most:
            found.append(f"{words} {worst:.0f} % of the time")
    throttled = sorted({state for one in noises for state in one["throttled"]})
    return found + ([f"the firmware slowed the board down ({', '.join(throttled)})"] if throttled else [])


def _involuntary_switches() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _numbers(path: Path, begin: str = "") -> list[int]:
    """Return the numbers of the file's first line, behind how it begins."""
    line = _text(path).partition("\n")[0]
    return [int(word) for word in line.removeprefix(begin).split() if word.isdigit()] if line.startswith(begin) else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
