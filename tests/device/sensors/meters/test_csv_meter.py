"""A CSV file that grows while it is read."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.sensors.meters.csv_meter import CsvMeter

HEADER = "time_s,power_w,volts\n"
Append = Callable[[str], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file whose old lines are of no use: a broken one, and one that is half written."""
    path = tmp_path / "meter.csv"
    path.write_text(f"{HEADER}broken\n{time.time()},2", encoding="utf-8")
    return path


@pytest.fixture
def power(path: Path) -> Iterator[list[float]]:
    """What a program writes into the file every 10 ms: watts that may be changed; none where the list is empty."""
    watts, stop = [2.5], threading.Event()

    def write() -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(".5,5\n")
            while not stop.wait(0.01):
                for one in watts:
                    file.write(f"{time.time()},{one},")
                    file.flush()  # the line is half written
                    file.write("5\n")
                    file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    yield watts
    stop.set()
    writer.join()


def test_the_samples_of_a_window_are_those_between_its_ends(path: Path, power: list[float]) -> None:
    with CsvMeter(path) as meter:
        assert 0.01 <= meter.interval_s < 0.2
        power[0] = 4.0
        time.sleep(0.05)
        meter.begin()
        time.sleep(0.8)
        window = meter.end()
        assert window.watts == pytest.approx(4.0) and 0.8 <= window.seconds < 1.2 and window.samples >= 5


def test_a_meter_that_falls_silent_gives_no_figure(path: Path, power: list[float]) -> None:
    with CsvMeter(path) as meter:
        meter.begin()
        time.sleep(0.05)
        power.clear()
        time.sleep(0.05)
        with pytest.raises(CheckFailed, match="has no sample of the last .* is the meter running"):
            meter.end()
    with pytest.raises(CheckFailed, match="gave 0 of 3 samples"), CsvMeter(path):
        pass


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{now},two,5", "power_w is no number: 'two'"),
        ("{now},3.25 W,5", "power_w is no number: '3.25 W'"),
        ("{now},1_0,5", "power_w is no number: '1_0'"),
        ("{now},nan,5", "power_w is no number: 'nan'"),
        ("{now},1e999,5", "inf W is no power"),
        ("{now},-2.5,5", "-2.5 W is no power"),
        ("{now},,5", "power_w is missing"),
        ("", "it is empty$"),
        ("{now},2,5,5", "4 fields, the header has 3 .is that a decimal comma"),
        ("{now}", "1 fields, the header has 3$"),
        ("1,2.5,5", "before that of the line above"),
        ('{now},"2.5,5', "1 fields|2 fields|unexpected end"),
    ],
)
def test_a_line_that_tells_no_power_is_named(line: str, message: str, path: Path) -> None:
    meter = CsvMeter(path)
    meter.open()
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{time.time()},2.5,5\n")
    with pytest.raises(CheckFailed, match="line 3: "):  # what was half written
        meter.arrived()
    meter.close()
    meter.open()
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{time.time()},2.5,5\n{line.format(now=time.time())}\n")
    with pytest.raises(CheckFailed, match=f"meter.csv, line 6: .*({message})"):
        meter.arrived()
    meter.close()


def test_only_what_was_appended_is_read(path: Path) -> None:
    path.write_text(HEADER + "0,1,5\n" * 200_000 + "1,2.", encoding="utf-8")
    meter = CsvMeter(path)
    meter.open()
    assert meter.arrived() == []
    with path.open("a", encoding="utf-8") as file:
        file.write("5,5\n2,3,5\n3,")
    assert [(one.time_s, one.power_w) for one in meter.arrived()] == [(1, 2.5), (2, 3)]
    assert meter.arrived() == []
    path.write_text(HEADER, encoding="utf-8")
    with pytest.raises(CheckFailed, match="became shorter"):
        meter.arrived()
    meter.close()


@pytest.mark.parametrize("first_s", [0.0, 10_000_000_000.0])
def test_times_that_are_not_those_of_now_are_refused(first_s: float, path: Path) -> None:
    path.write_text(HEADER, encoding="utf-8")

    def write() -> None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{first_s + number},2.5,5\n" for number in range(5))

    later = threading.Timer(0.1, write)
    later.start()
    with (
        pytest.raises(CheckFailed, match=rf"the time of its last sample is {first_s + 4:.1f} s, now is"),
        CsvMeter(path),
    ):
        pass
    later.join()


@pytest.mark.parametrize("header", ["time,watts\n", "time_s;power_w\n", "time_s,power_w,power_w\n", ""])
def test_a_file_without_the_columns_is_no_meter(header: str, tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(f"{header}1,2\n", encoding="utf-8")
    with pytest.raises(DeviceError, match="needs one column time_s") as refused:
        CsvMeter(path)
    assert refused.value.exit_code == 2
