"""Contexts are read off fake file trees of the boards; this machine's own only has to be readable."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgekd.device import cpuinfo
from edgekd.device.machine import Machine, available_memory_mib, int8_isa, peak_memory_mib, read_machine, warnings

_PI_5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
"""
_EPYC = (
    "processor\t: 0\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2596.094\nflags\t\t: fpu sse4_1 avx2 avx512_vnni avx_vnni\n"
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def raspberry_pi(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        {
            "proc/cpuinfo": _PI_5,
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "proc/sys/kernel/arch": "aarch64\n",
            "proc/meminfo": "MemTotal:        4147744 kB\nMemAvailable:    2097152 kB\n",
            "proc/loadavg": "0.52 0.58 0.59 1/467 12345\n",
            "proc/pressure/cpu": "some avg10=1.25 avg60=0.50 avg300=0.10 total=100\nfull avg10=0.00\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "cpufreq-dt\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2400000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
            "sys/class/thermal/thermal_zone0/temp": "61750\n",
            "sys/class/thermal/thermal_zone1/temp": "40000\n",
            "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50005\n",
        },
    )


def test_raspberry_pi(raspberry_pi: Path) -> None:
    machine = read_machine(raspberry_pi, architecture="aarch64")
    assert machine.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert machine.cpu_model == "Cortex-A76" and machine.int8_isa == "asimddp" and not machine.emulated
    assert machine.instruction_sets == ("asimd", "asimdhp", "asimddp")
    assert machine.memory_mib == pytest.approx(4050.5, abs=0.1)
    assert available_memory_mib(raspberry_pi) == 2048
    assert (machine.governor, machine.clock_mhz, machine.clock_max_mhz) == ("ondemand", 1500.0, 2400.0)
    assert machine.temperature_celsius == 61.75 and machine.throttled == ("under-voltage", "throttled")
    assert machine.load_1min == 0.52 and machine.pressure_cpu_percent == 1.25
    assert warnings(machine) == ["the firmware slows the board down: under-voltage, throttled"]
    json.dumps(machine.to_dict(), allow_nan=False)


def test_x86_without_sensors(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, {"proc/cpuinfo": _EPYC}), architecture="x86_64")
    assert machine.cpu_model == "AMD EPYC" and machine.int8_isa == "avx512_vnni" and not machine.emulated
    assert machine.clock_mhz == 2596.094
    for name in ("board", "governor", "temperature_celsius", "throttled", "load_1min", "pressure_cpu_percent"):
        assert getattr(machine, name) is None
    assert warnings(machine) == []


def test_nothing_to_read(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert machine.cpu_model is None and machine.int8_isa is None and machine.instruction_sets == ()
    assert warnings(machine) == []


@pytest.fixture
def quiet(tmp_path: Path) -> Machine:
    return replace(read_machine(write(tmp_path, {"proc/cpuinfo": _EPYC}), architecture="x86_64"), cores=4)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"pressure_cpu_percent": 30.0, "load_1min": 0.0}, "waited for a core 30 %"),
        ({"load_1min": 3.0}, "load average 3.0 on 4"),
        ({"governor": "powersave", "scaling_driver": "cpufreq-dt"}, "powersave"),
        ({"clock_limit_mhz": 600.0, "clock_max_mhz": 2400.0}, "limited to 600 MHz of 2400"),
        ({"throttled": ("throttled",)}, "slows the board down"),
    ],
)
def test_warning(quiet: Machine, changes: dict[str, object], warning: str) -> None:
    (found,) = warnings(replace(quiet, **changes))  # type: ignore[arg-type]
    assert warning in found


@pytest.mark.parametrize(
    "changes",
    [
        {"pressure_cpu_percent": 1.0, "load_1min": 9.0},
        {"load_1min": 1.0},
        {"governor": "powersave", "scaling_driver": "intel_pstate"},
        {"governor": "performance"},
        {"clock_limit_mhz": 2400.0, "clock_max_mhz": 2400.0},
        {"throttled": ()},
    ],
)
def test_no_warning(quiet: Machine, changes: dict[str, object]) -> None:
    assert warnings(replace(quiet, **changes)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpu", "kernel", "architecture", "expected"),
    [
        (_EPYC, "x86_64", "aarch64", True),
        (_PI_5, "x86_64", "aarch64", True),
        (_PI_5, "aarch64", "aarch64", False),
        (_PI_5, "aarch64", "armv7l", False),
        (_PI_5, None, "aarch64", False),
        (_EPYC, "x86_64", "x86_64", False),
        ("", None, "riscv64", False),
    ],
)
def test_emulation_shows_through(
    tmp_path: Path, cpu: str, kernel: str | None, architecture: str, expected: bool
) -> None:
    info = cpuinfo.read_cpuinfo(write(tmp_path, {"proc/cpuinfo": cpu}))
    assert cpuinfo.is_emulated(info, kernel, architecture) is expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : avx2 amx_int8 avx512_vnni", "amx_int8"),
        ("flags : avx2 avx_vnni", "avx_vnni"),
        ("flags : avx2 avx512f", None),
        ("Features : asimd asimddp i8mm", "i8mm"),
        ("Features : fp asimd evtstrm crc32 cpuid", None),
    ],
)
def test_int8_instructions(tmp_path: Path, flags: str, expected: str | None) -> None:
    info = cpuinfo.read_cpuinfo(write(tmp_path, {"proc/cpuinfo": flags + "\n"}))
    assert cpuinfo.int8_instructions(info) == expected


def test_this_machine() -> None:
    machine = read_machine()
    assert machine.cores and machine.cores >= 1 and not machine.emulated
    assert machine.int8_isa == int8_isa()
    peak = peak_memory_mib()
    assert peak is not None and 5 < peak < 1e6


def test_peak_memory_prefers_the_high_water_mark(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/self/status": "Name:\tpython\nVmPeak:\t 9999999 kB\nVmHWM:\t   10240 kB\n"})
    assert peak_memory_mib(root) == 10.0
    fallback = peak_memory_mib(tmp_path / "nothing")
    assert fallback is not None and fallback > 5


@pytest.mark.parametrize(
    ("architecture", "flags", "overflows"),
    [
        ("x86_64", "flags\t\t: avx2", True),
        ("x86_64", "flags\t\t: avx2 avx_vnni", False),
        ("x86_64", "flags\t\t: avx512f avx512_vnni", False),
        ("aarch64", "Features\t: asimd", False),
    ],
)
def test_int8_overflows_on_x86_without_vnni(tmp_path: Path, architecture: str, flags: str, overflows: bool) -> None:
    root = write(tmp_path, {"proc/cpuinfo": f"processor\t: 0\n{flags}\n"})
    assert read_machine(root, architecture).int8_overflows is overflows
