"""Lines that the tool printed on two modules; a script stands in for the tool."""

from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.sensors.tegrastats import Tegrastats, module_power_w, rails_of

_ORIN_NANO = (
    "CPU [0%@1728] EMC_FREQ 0%@3199 GR3D_FREQ 0%@[1018] "
    "VDD_IN 5971mW/5971mW VDD_CPU_GPU_CV 1669mW/1669mW VDD_SOC 2308mW/2308mW"
)
_AGX_ORIN = (
    "GR3D_FREQ 12%@[1300,1300] cpu@52.968C/52.968C VDD_GPU_SOC 5139mW/5139mW/5139mW "
    "VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW"
)


def test_rails() -> None:
    assert rails_of(_ORIN_NANO) == {"VDD_IN": 5.971, "VDD_CPU_GPU_CV": 1.669, "VDD_SOC": 2.308}
    assert module_power_w(_ORIN_NANO) == 5.971
    assert module_power_w(_AGX_ORIN) == pytest.approx(5.139 + 3.268 + 5.5)


def test_a_line_without_power_is_no_zero() -> None:
    with pytest.raises(CheckFailed, match="tells no power"):
        rails_of("GR3D_FREQ @[1000,1000,1000]")


def command(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_last_line_counts(tmp_path: Path) -> None:
    lines = f"while true; do echo '{_ORIN_NANO}'; sleep 0.01; done"
    sensor = Tegrastats(command(tmp_path / "tegrastats", lines))
    sensor.begin()
    window = sensor.end()
    assert window.watts == pytest.approx(5.971) and sensor.covers == "the module (VDD_IN)"
    assert sensor._process is not None
    sensor._process.kill()
    sensor._process.wait()


def test_a_tool_that_dies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed):
        Tegrastats(command(tmp_path / "tegrastats", "echo no power here"))
    with pytest.raises(CheckFailed, match="does not start"):
        Tegrastats(str(tmp_path / "missing"))
