"""The context that belongs to every measurement: which machine, in which state. What it does not tell is None."""

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import cpuinfo as cpu
from .errors import CheckFailed

_ROOT = Path("/")
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"
_DRIVERS_THAT_SCALE_IN_POWERSAVE = ("intel_pstate", "amd-pstate-epp")
_BUSY_PERCENT = 5.0
_RASPBERRY_PI_STATES = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}


@dataclass(frozen=True)
class Machine:
    """Hardware and its state.

    `int8_isa` is the best instruction set for int8 products. `cores` may be used by this process. `load_1min` counts
    processes, averaged over a minute; `pressure_cpu_percent` is the share of the last 10 s in which some process waited
    for a core. `throttled` lists what a Raspberry Pi's firmware reports right now.
    """

    time_utc: str
    board: str | None
    cpu_model: str | None
    architecture: str
    emulated: bool
    instruction_sets: tuple[str, ...]
    int8_isa: str | None
    cores: int | None
    memory_mib: float | None
    governor: str | None
    scaling_driver: str | None
    clock_mhz: float | None
    clock_limit_mhz: float | None
    clock_max_mhz: float | None
    temperature_celsius: float | None
    throttled: tuple[str, ...] | None
    load_1min: float | None
    pressure_cpu_percent: float | None
    system: str
    python: str
    numpy: str

    @property
    def int8_overflows(self) -> bool:
        """Return whether two products of an unsigned and a signed 8-bit value are added up in 16 bits, as x86 does without VNNI."""
        return cpu.family(self.architecture) == "x86" and self.int8_isa is None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def read_machine(root: Path = _ROOT, architecture: str | None = None) -> Machine:
    """Read the context off this machine; `root` and `architecture` stand in for another one in tests."""
    architecture = architecture or platform.machine()
    info = cpu.read_cpuinfo(root)
    return Machine(
        time_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        board=_text(root / "proc/device-tree/model"),
        cpu_model=cpu.cpu_model(info),
        architecture=architecture,
        emulated=cpu.is_emulated(info, _text(root / "proc/sys/kernel/arch"), architecture),
        instruction_sets=tuple(cpu.instruction_sets(info)),
        int8_isa=cpu.int8_instructions(info),
        cores=_cores(),
        memory_mib=_field(root / "proc/meminfo", "MemTotal:", 1 / 1024),
        governor=_text(root / _CPUFREQ / "scaling_governor"),
        scaling_driver=_text(root / _CPUFREQ / "scaling_driver"),
        clock_mhz=_scaled(root / _CPUFREQ / "scaling_cur_freq", 1e-3) or _number(info.get("cpu MHz")),
        clock_limit_mhz=_scaled(root / _CPUFREQ / "scaling_max_freq", 1e-3),
        clock_max_mhz=_scaled(root / _CPUFREQ / "cpuinfo_max_freq", 1e-3),
        temperature_celsius=_temperature(root),
        throttled=_throttled(root),
        load_1min=_number((_text(root / "proc/loadavg") or "").split(" ")[0]),
        pressure_cpu_percent=_field(root / "proc/pressure/cpu", "avg10=", 1.0),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=np.__version__,
    )


def int8_isa() -> str | None:
    """Return this machine's best instruction set for int8 products, such as `avx512_vnni` or `asimddp`, or None."""
    return cpu.int8_instructions(cpu.read_cpuinfo(_ROOT))


def warnings(machine: Machine, threads: int = 1) -> list[str]:
    """Return what makes a measurement on this machine, in this state, with so many threads, less trustworthy."""
    found = []
    if machine.cores is not None and threads > machine.cores:
        found.append(f"{threads} threads share {machine.cores} core(s): they wait for each other")
    pressure, load = machine.pressure_cpu_percent, machine.load_1min
    if pressure is not None and pressure > _BUSY_PERCENT:
        found.append(f"other work competes for the CPU: processes waited for a core {pressure:.0f} % of the last 10 s")
    elif pressure is None and load is not None and machine.cores and load > 0.5 * machine.cores:
        found.append(f"other work competes for the CPU: load average {load:.1f} on {machine.cores} core(s)")
    if machine.governor == "powersave" and machine.scaling_driver not in _DRIVERS_THAT_SCALE_IN_POWERSAVE:
        found.append("the clock governor is powersave, which keeps the clock at its lowest")
    limit, highest = machine.clock_limit_mhz, machine.clock_max_mhz
    if limit is not None and highest is not None and limit < 0.95 * highest:
        found.append(f"the clock is limited to {limit:.0f} MHz of {highest:.0f} MHz")
    if machine.throttled:
        found.append(f"the firmware slows the board down: {', '.join(machine.throttled)}")
    return found


def refuse_emulation(machine: Machine) -> None:
    """Refuse to time anything on an emulated processor.

    Raises:
        CheckFailed: It is one.
    """
    if machine.emulated:
        raise CheckFailed("this processor is emulated, where time is not latency: profile on the board itself")


def peak_memory_mib(root: Path = _ROOT) -> float | None:
    """Return the most memory this process has held at once, in MiB, Python and the runtime included.

    Linux's VmHWM is preferred to `ru_maxrss`, which a child process inherits from the one that started it.
    """
    high_water = _field(root / "proc/self/status", "VmHWM:", 1 / 1024)
    if high_water is not None:
        return high_water
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def available_memory_mib(root: Path = _ROOT) -> float | None:
    """Return the memory that new work may take without swapping, in MiB; None where Linux does not tell."""
    return _field(root / "proc/meminfo", "MemAvailable:", 1 / 1024)


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _temperature(root: Path) -> float | None:
    """Return the hottest thermal zone in degrees Celsius."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    values = [value for zone in zones if (value := _scaled(zone, 1e-3)) is not None]
    return max(values, default=None)


def _throttled(root: Path) -> tuple[str, ...] | None:
    for path in sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")):
        text = _text(path)
        try:
            bits = int(text or "", 16)
        except ValueError:
            continue
        return tuple(name for bit, name in _RASPBERRY_PI_STATES.items() if bits >> bit & 1)
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _scaled(path: Path, factor: float) -> float | None:
    value = _number(_text(path))
    return None if value is None else value * factor


def _field(path: Path, label: str, factor: float) -> float | None:
    """Return the number behind the first `label` in a file, times `factor`."""
    _, found, rest = (_text(path) or "").partition(label)
    value = _number(rest.split()[0]) if found and rest.split() else None
    return None if value is None else value * factor
