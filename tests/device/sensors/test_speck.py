"""The vendor's stub is never imported, and readings of several rails are added up."""

import sys
from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.sensors import AbsentSensor, find_sensor
from edgekd.device.sensors.speck import Speck, window_of


def test_the_stub_that_installs_software_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samna").mkdir()
    (tmp_path / "samna/__init__.py").write_text("PYPI_SAMNA = True\nraise SystemExit('pip install ran')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "left alone" in str(Speck.find()) and "samna" not in sys.modules


def test_a_samna_that_does_not_load_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs the vendor's samna" in str(Speck.find())
    (tmp_path / "samna.py").write_text("raise OSError('libusb is missing')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "libusb is missing" in str(Speck.find())


def test_it_is_not_taken_for_the_machine_that_runs_the_calls() -> None:
    found = find_sensor("auto")
    assert not isinstance(found, AbsentSensor) or "samna" not in found.reason


def test_rails_are_added_up() -> None:
    readings = [(rail, watts) for _ in range(100) for rail, watts in ((0, 0.001), (2, 0.003))]
    window = window_of(readings, seconds=2.0)
    assert window.joules == pytest.approx(0.008) and window.samples == 200 and window.watts == pytest.approx(0.004)
    for stalled in (readings[:150], readings[::2] + readings[1:20:2], []):
        with pytest.raises(CheckFailed, match="fewer than 80 readings of a rail in 2 s"):
            window_of(stalled, seconds=2.0)
    with pytest.raises(CheckFailed, match="nan W is no power"):
        window_of([*readings, (0, float("nan"))], seconds=2.0)
