"""Counters of x86 processors as sysfs trees: sockets add up, counters wrap, and root may be needed."""

import os
from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.sensors.rapl import Rapl


def domain(root: Path, name: str, title: str, micro_joules: int, most: int = 262_143_328_850) -> Path:
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True)
    for file, text in (("name", title), ("energy_uj", str(micro_joules)), ("max_energy_range_uj", str(most))):
        (folder / file).write_text(f"{text}\n")
    return folder


def test_packages_add_up_and_nothing_else(tmp_path: Path) -> None:
    first, second = domain(tmp_path, "intel-rapl:0", "package-0", 100), domain(tmp_path, "intel-rapl:1", "package-1", 7)
    core = domain(tmp_path, "intel-rapl:0:0", "core", 50)
    psys = domain(tmp_path, "intel-rapl:2", "psys", 50)
    sensor = Rapl.find(tmp_path)
    assert isinstance(sensor, Rapl) and sensor.covers == "the processor (package-0, package-1)"
    sensor.begin()
    for folder, value in ((first, 2_000_100), (second, 1_000_007), (core, 9_000_000), (psys, 9_000_000)):
        (folder / "energy_uj").write_text(str(value))
    assert sensor.end().joules == pytest.approx(3.0)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 9_500_000, most=10_000_000)
    sensor = Rapl.find(tmp_path)
    assert isinstance(sensor, Rapl)
    sensor.begin()
    (folder / "energy_uj").write_text("250000")
    assert sensor.end().joules == pytest.approx(0.75)


def test_why_there_is_none(tmp_path: Path) -> None:
    assert Rapl.find(tmp_path) == "no RAPL counter under /sys/class/powercap"
    domain(tmp_path, "intel-rapl:0", "psys", 1)
    assert Rapl.find(tmp_path) == "no RAPL counter under /sys/class/powercap"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_counter_for_root_says_so(tmp_path: Path) -> None:
    (domain(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").chmod(0)
    assert "run as root" in str(Rapl.find(tmp_path))


def test_a_counter_that_disappears_is_an_error(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 1)
    sensor = Rapl.find(tmp_path)
    assert isinstance(sensor, Rapl)
    sensor.begin()
    (folder / "energy_uj").unlink()
    with pytest.raises(CheckFailed, match="energy_uj cannot be read"):
        sensor.end()
