"""A board that slows down after a while, on a clock that only its calls move."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekd.device.machine import read_machine
from edgekd.device.sustained import sustain

from .fake_clock import FakeClock


def test_the_first_minute_against_the_steady_state(tmp_path: Path) -> None:
    def calls() -> Iterator[float]:
        while True:
            yield 10.0 if clock() < 100e9 else 12.0  # it gets hot after 100 s

    clock = FakeClock(calls())
    found = sustain(clock.run, 600.0, lambda: read_machine(tmp_path), clock=clock)
    assert len(found["windows"]) == 10 and found["windows"][0]["calls"] == 6000
    assert (found["first_p50_ms"], found["steady_p50_ms"]) == (pytest.approx(10.0), pytest.approx(12.0))
    assert found["slowdown_percent"] == pytest.approx(20.0)
    assert found["windows"][-1]["to_s"] == pytest.approx(600, abs=1)


def test_a_short_run_has_four_windows(tmp_path: Path) -> None:
    clock = FakeClock(iter([5.0] * 10_000))
    found = sustain(clock.run, 2.0, lambda: read_machine(tmp_path), clock=clock)
    assert [one["calls"] for one in found["windows"]] == [100] * 4 and found["slowdown_percent"] == 0
