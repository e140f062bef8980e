"""Lines that the tool printed on two modules; a script stands in for the tool."""

import os
import time
from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.sensors import tegrastats
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


def test_the_last_line_counts_and_the_tool_is_stopped(tmp_path: Path) -> None:
    lines = f"echo $$ >> {tmp_path}/pids; while true; do echo '{_ORIN_NANO}'; sleep 0.01; done"
    sensor = Tegrastats(command(tmp_path / "tegrastats", lines))
    assert sensor.covers == "the module (VDD_IN)"
    with sensor:
        sensor.begin()
        time.sleep(0.3)
        window = sensor.end()
    assert window.watts == pytest.approx(5.971) and window.seconds >= 0.3
    started = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(started) == 2  # one to see whether it tells power, one to measure
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize("then", ["exit", "sleep 60"])
def test_a_tool_that_ends_or_hangs_gives_no_figure(then: str, tmp_path: Path) -> None:
    lines = f"for n in 1 2 3 4 5; do echo '{_ORIN_NANO}'; sleep 0.05; done; {then}"
    with Tegrastats(command(tmp_path / "tegrastats", lines)) as sensor:
        sensor.begin()
        time.sleep(1.0)
        with pytest.raises(CheckFailed, match="has printed nothing for"):
            sensor.end()


def test_a_tool_that_tells_other_rails_later_gives_no_figure(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    lines = (
        f"if [ -e {seen} ]; then echo 'VDD_CPU_CV 3268mW/3268mW'; else touch {seen}; echo '{_AGX_ORIN}'; fi; sleep 5"
    )
    with Tegrastats(command(tmp_path / "tegrastats", lines)) as sensor, pytest.raises(CheckFailed, match="other rails"):
        sensor.begin()


def test_a_tool_that_tells_no_power_is_no_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckFailed, match="tells no power: 'no power here'"):
        Tegrastats(command(tmp_path / "tegrastats", "echo no power here; sleep 5"))
    monkeypatch.setattr(tegrastats, "_FIRST_LINE_S", 0.1)
    with pytest.raises(CheckFailed, match="prints nothing"):
        Tegrastats(command(tmp_path / "tegrastats", "sleep 5"))
    with pytest.raises(CheckFailed, match="does not start"):
        Tegrastats(str(tmp_path / "missing"))
