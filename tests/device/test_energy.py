"""Energy of calls that take a known power: idle is taken off, and noise widens the interval."""

import pytest

from edgekd.device.energy import measure_energy, require_energy, summarize
from edgekd.device.errors import CheckFailed
from edgekd.device.sensors.sensor import Sensor, Window


class Board(Sensor):
    """A board that takes `idle_w`, and `busy_w` during a call; its clock is advanced by rest and by calls."""

    name, covers = "fake", "the board"

    def __init__(self, idle_w: float, busy_w: float, call_s: float) -> None:
        self.idle_w, self.busy_w, self.call_s = idle_w, busy_w, call_s
        self.now_s = self.joules = 0.0

    def rest(self, seconds: float) -> None:
        self.now_s += seconds
        self.joules += seconds * self.idle_w

    def call(self) -> None:
        self.now_s += self.call_s
        self.joules += self.call_s * self.busy_w

    def begin(self) -> None:
        self.began = (self.now_s, self.joules)

    def end(self) -> Window:
        return Window(self.joules - self.began[1], self.now_s - self.began[0], 2)


def test_the_energy_of_a_call() -> None:
    board = Board(idle_w=2.0, busy_w=5.0, call_s=0.010)
    found = measure_energy(board.call, board, sleep=board.rest, clock=lambda: board.now_s)
    assert found.total_mj == pytest.approx(50.0) and found.above_idle_mj == pytest.approx(30.0)
    assert (found.idle_w, found.busy_w) == (pytest.approx(2.0), pytest.approx(5.0))
    assert found.calls == pytest.approx(1000, abs=5) and found.seconds == pytest.approx(10, abs=0.06)
    assert found.total_low_mj == pytest.approx(found.total_high_mj)


def test_rounds_that_differ_have_an_interval() -> None:
    board = Board(2.0, 5.0, 0.01)
    idle, busy = [Window(2.0, 1.0, 2)] * 3, [Window(joules, 1.0, 2) for joules in (4.9, 5.0, 5.1)]
    found = summarize(board, idle, busy, [100, 100, 100])
    half = 4.303 * 1.0 / 3**0.5  # Student's t of two degrees of freedom; the three rounds deviate by 1 mJ
    assert (found.total_mj, found.total_low_mj) == (pytest.approx(50.0), pytest.approx(50 - half, rel=1e-3))
    assert (found.above_idle_mj, found.above_idle_high_mj) == (pytest.approx(30.0), pytest.approx(30 + half, rel=1e-3))


def test_windows_of_a_slow_sensor_hold_five_values_and_begin_one_late() -> None:
    board = Board(idle_w=2.0, busy_w=5.0, call_s=0.010)
    board.interval_s = 2.0
    told: list[str] = []
    found = measure_energy(board.call, board, sleep=board.rest, clock=lambda: board.now_s, say=told.append)
    assert found.seconds == pytest.approx(50, abs=0.1) and found.total_mj == pytest.approx(50.0)
    assert board.now_s == pytest.approx(5 * (10 + 10 + 2 * 2), abs=0.2) and told == ["energy by fake: 120 s"]


def test_a_sensor_that_tells_no_energy_gives_no_figure() -> None:
    board = Board(idle_w=0.0, busy_w=0.0, call_s=0.010)
    with pytest.raises(CheckFailed, match="fake tells no energy at all"):
        measure_energy(board.call, board, sleep=board.rest, clock=lambda: board.now_s)


def test_a_sensor_that_was_named_must_give_a_figure() -> None:
    absent = {"energy": None, "energy_absent": "no counter"}
    for name in ("auto", "none"):
        require_energy(name, absent)
    require_energy("rapl", {"energy": {"total_mj": 1.0}, "energy_absent": None})
    with pytest.raises(CheckFailed, match="the sensor rapl gave no figure: no counter"):
        require_energy("rapl", absent)
