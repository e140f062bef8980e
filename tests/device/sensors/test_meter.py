"""A CSV file that grows while it is read, and a pseudo-terminal in place of a serial line."""

import os
import threading
import time
from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.sensors.meter import CsvMeter, SerialMeter, cut, open_meter
from edgekd.device.sensors.sensor import PowerSample, integrate


def test_a_window_begins_and_ends_between_samples() -> None:
    samples = [PowerSample(0, 1), PowerSample(1, 1), PowerSample(2, 3), PowerSample(3, 3)]
    inside = cut(samples, 0.5, 2.5)
    assert inside == [PowerSample(0.5, 1), PowerSample(1, 1), PowerSample(2, 3), PowerSample(2.5, 3)]
    assert integrate(inside).joules == pytest.approx(0.5 + 2.0 + 1.5)
    with pytest.raises(CheckFailed, match="start the meter earlier"):
        cut(samples, -1, 2)


def test_csv_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(f"time_s,power_w,volts\n{time.time() - 1},2.5,5\n")
    meter = open_meter(path)
    assert isinstance(meter, CsvMeter)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.01):
            with path.open("a") as file:
                file.write(f"{time.time()},2.5,5\n1")  # the next line is half written
                file.flush()
                file.truncate(file.tell() - 1)

    writer = threading.Thread(target=write)
    writer.start()
    meter.begin()
    time.sleep(0.1)
    window = meter.end()
    stop.set()
    writer.join()
    assert window.watts == pytest.approx(2.5) and 0.1 <= window.seconds < 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("time,watts\n1,2\n", "needs the columns time_s"),
        ("time_s,power_w\n1,two\n", "line 2"),
        ("", "needs the columns"),
    ],
)
def test_a_file_that_is_none(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(content)
    meter = open_meter(path)
    meter.begin()
    with pytest.raises(CheckFailed, match=message):
        meter.end()


def test_a_meter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="does not exist"):
        open_meter(tmp_path / "ttyUSB0")


def test_serial_line() -> None:
    controller, line = os.openpty()
    meter = open_meter(Path(os.ttyname(line)))
    assert isinstance(meter, SerialMeter)
    meter.begin()
    for _ in range(5):
        os.write(controller, b"12:00:01 5.02 V 0.4 A 2.008\nbroken\n")
        time.sleep(0.02)
    window = meter.end()
    os.close(controller)
    os.close(line)
    assert window.samples == 5 and window.watts == pytest.approx(2.008)
