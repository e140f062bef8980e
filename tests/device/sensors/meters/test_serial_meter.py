"""A pseudo-terminal in place of a serial line."""

import os
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekd.device.energy import measure_energy
from edgekd.device.errors import CheckFailed
from edgekd.device.sensors.meters.serial_meter import SerialMeter, power_of


class Line:
    """Writes a line every `interval_s`, until it has nothing to say or is hung up."""

    def __init__(self) -> None:
        self.controller, self.terminal = os.openpty()
        tty.setraw(self.terminal)
        self.path = Path(os.ttyname(self.terminal))
        self.text, self.interval_s = b"12:00:01 5.02 V 0.4 A 2.008 W\n", 0.01
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write)
        self._writer.start()

    def _write(self) -> None:
        while not self._stop.wait(self.interval_s):
            os.write(self.controller, self.text)

    def hang_up(self) -> None:
        """Take the meter away."""
        if not self._stop.is_set():
            self._stop.set()
            self._writer.join()
            os.close(self.controller)
            os.close(self.terminal)


@pytest.fixture
def line() -> Iterator[Line]:
    """A line that a meter writes to."""
    made = Line()
    yield made
    made.hang_up()


def test_a_window_is_covered_whole_by_a_slow_meter_too(line: Line) -> None:
    line.interval_s = 0.2
    with SerialMeter(line.path) as meter:
        assert meter.interval_s == pytest.approx(0.2, rel=0.4)
        meter.begin()
        time.sleep(0.7)
        window = meter.end()
    assert 0.7 <= window.seconds < 1.0 and window.watts == pytest.approx(2.008) and window.samples <= 5


def test_rest_and_calls_last_until_a_slow_meter_has_told_enough(line: Line) -> None:
    line.interval_s = 0.05
    found = measure_energy(lambda: time.sleep(0.001), SerialMeter(line.path), duration_s=0.2, idle_s=0.1, rounds=2)
    assert found.busy_w == pytest.approx(2.008) and found.idle_w == pytest.approx(2.008) and found.samples >= 4 * 4


def test_lines_that_are_no_samples_are_left_out(line: Line) -> None:
    line.text = b"\nhello\n3.5 W at 5 V\n"
    with SerialMeter(line.path) as meter:
        meter.begin()
        time.sleep(0.8)
        assert meter.end().watts == pytest.approx(3.5)


def test_what_begins_in_the_middle_of_a_line_is_no_sample(line: Line) -> None:
    line.text, line.interval_s = b"", 0.01
    meter = SerialMeter(line.path)
    meter.open()
    os.write(line.controller, b"08\n2.5\n")
    time.sleep(0.2)
    assert [one.power_w for one in meter.arrived()] == [2.5]
    meter.close()


def test_a_meter_that_is_taken_away_gives_no_figure(line: Line) -> None:
    with SerialMeter(line.path) as meter:
        meter.begin()
        time.sleep(0.05)
        line.hang_up()
        with pytest.raises(CheckFailed, match="hung up|went away"):
            meter.end()


def test_a_meter_that_falls_silent_gives_no_figure(line: Line) -> None:
    with SerialMeter(line.path) as meter:
        meter.begin()
        time.sleep(0.05)
        line.text = b""
        time.sleep(0.05)
        with pytest.raises(CheckFailed, match="has no sample of the last"):
            meter.end()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"3,25 W\n", "line 2, '3,25 W': is the comma a decimal one"),
        (b"12:00 nan W\n", "line 2, '12:00 nan W'"),
        (b"-3 W\n", "line 2, '-3 W'"),
        (b"\x1b[2J3.25 W\n", "line 2, .*: it holds control characters"),
        (b"3.25 J 25 C\n", "line 2, '3.25 J 25 C': which number is the power"),
        (b"x" * 5000, "no end of a line"),
    ],
)
def test_a_line_that_tells_no_power_is_named(text: bytes, message: str, line: Line) -> None:
    line.text = text
    with pytest.raises(CheckFailed, match=message), SerialMeter(line.path):
        pass


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        ("2.5", 2.5),
        ("12:00:01 2.5", 2.5),
        ("5.0,0.4,2.008", 2.008),
        ("1023,2.5", 2.5),
        ("5, 3", 3),
        ("1;2,-3", -3),
        ("5.02 V 0.4 A 2008 mW", 2.008),
        ("P=.5W, 5V", 0.5),
        ("P:25 W", 25),
        ("1.5e-3 W", 1.5e-3),
        ("3250 uW", 3.25e-3),
        ("3250 µW", 3.25e-3),
        ("0.00325 kW, 25", 3.25),
        ("power: 3.25 W 25 C", 3.25),
        ("power: 3.25 Watts, 25 C", 3.25),
        ("3.25 W 7.1 Wh 25 °C", 3.25),
        ("ready", None),
    ],
)
def test_the_power_of_a_line(line: str, watts: float | None) -> None:
    assert power_of(line) == (None if watts is None else pytest.approx(watts))


@pytest.mark.parametrize("unclear", ["3,25", "1,234.5 W", "1.234,5 W", "P=3,25W", "5,0.4,2"])
def test_a_comma_that_may_be_a_decimal_one_is_refused(unclear: str) -> None:
    with pytest.raises(ValueError, match="comma"):
        power_of(unclear)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "W: 3.25 Wh: 7.1",
            "V: 5.0 W: 3.25",
            "V=5 W=3",
            "V 5.0 W 3.25 A 0.65",
            "V 5 W 3 ok",
            "1 V 5 W 3 A 1",
            "0.00325 kW 25",
        ),  # units in front
        *("7.1 Wh", "7.1 W h", "7.1 W/h", "3 J", "3 MW", "25 C", "5.02 V 0.4 A 2.008"),  # no power has its unit
        *("now 3 W, most 5 W", "0x10 W", "3.2.5 W", "1'234 W", "<3 W", "12:25 W", "2.5 12:00:01", "3.\ufffd5 W"),
    ],
)
def test_a_line_of_which_the_power_is_not_certain_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="which number is the power"):
        power_of(line)
