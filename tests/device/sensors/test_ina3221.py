"""Jetson modules as sysfs trees: which rails are added up, and what is said where there are none."""

from pathlib import Path

import pytest

from edgekd.device.sensors.ina3221 import Ina3221

_CHIP = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


def module(root: Path, *channels: tuple[str, int | None, int | None]) -> Path:
    """Write channels with label, millivolts and milliamperes, as many as a chip has."""
    folder = root / _CHIP
    folder.mkdir(parents=True)
    for number, (label, millivolts, milliamperes) in enumerate(channels, start=1):
        (folder / f"in{number}_label").write_text(f"{label}\n")
        for name, value in ((f"in{number}_input", millivolts), (f"curr{number}_input", milliamperes)):
            if value is not None:
                (folder / name).write_text(f"{value}\n")
    return root


def test_what_flows_into_the_module_is_its_power(tmp_path: Path) -> None:
    channels = ("VDD_IN", 5000, 1194), ("VDD_CPU_GPU_CV", 4980, 335), ("VDD_SOC", 4990, 462)
    sensor = Ina3221.find(module(tmp_path, *channels))
    assert isinstance(sensor, Ina3221)
    assert sensor.power_w() == pytest.approx(5.97) and "VDD_IN" in sensor.covers


def test_without_it_the_rails_are_added_up(tmp_path: Path) -> None:
    channels = ("VDD_GPU_SOC", 19_000, 270), ("NC", 5000, 9999), ("VDD_CPU_CV", 19_000, 172), ("sum of shunts", 1, None)
    sensor = Ina3221.find(module(tmp_path, *channels))
    assert isinstance(sensor, Ina3221)
    assert sensor.power_w() == pytest.approx(19 * 0.442) and sensor.covers == "the rails VDD_CPU_CV, VDD_GPU_SOC"


def test_why_there_is_none(tmp_path: Path) -> None:
    assert Ina3221.find(tmp_path) == "no INA3221 under /sys/bus/i2c/drivers/ina3221"
    found = Ina3221.find(module(tmp_path, ("VDD_IN", 5000, 1000)))
    assert isinstance(found, Ina3221)
    (tmp_path / _CHIP / "curr1_input").write_text("busy")
    assert "holds no number: 'busy'" in str(Ina3221.find(tmp_path))
