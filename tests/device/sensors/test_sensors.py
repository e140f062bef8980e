"""Sampling and integration, and how a sensor is chosen."""

import threading

import pytest

from edgekd.device import sensors
from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.sensors import find_sensor
from edgekd.device.sensors.absent import AbsentSensor
from edgekd.device.sensors.sensor import PowerSample, PowerSensor, integrate


class Ramp(PowerSensor):
    """A sensor whose power rises by a watt with every reading; it fails after `lasts` of them."""

    name, covers, interval_s = "ramp", "nothing", 0.001

    def __init__(self, lasts: int) -> None:
        self.readings, self.lasts = 0, lasts
        self.read = threading.Event()

    def power_w(self) -> float:
        self.readings += 1
        if self.readings > self.lasts:
            self.read.set()
            raise CheckFailed("the sensor was pulled out")
        return float(self.readings)


def test_trapezoids() -> None:
    window = integrate([PowerSample(1.0, 2.0), PowerSample(2.0, 4.0), PowerSample(4.0, 4.0)])
    assert (window.joules, window.seconds, window.samples) == (11.0, 3.0, 3)
    assert window.watts == pytest.approx(11 / 3)
    for too_few in ([PowerSample(1.0, 2.0)], [PowerSample(1.0, 2.0), PowerSample(1.0, 2.0)]):
        with pytest.raises(CheckFailed, match="measure for longer"):
            integrate(too_few)


def test_a_sensor_that_fails_while_it_is_read_fails_the_window() -> None:
    sensor = Ramp(lasts=3)
    sensor.begin()
    assert sensor.read.wait(10)
    with pytest.raises(CheckFailed, match="pulled out"):
        sensor.end()


def test_a_sensor_that_cannot_be_read_fails_at_once() -> None:
    with pytest.raises(CheckFailed, match="pulled out"):
        Ramp(lasts=0).begin()


def test_the_first_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Ramp(lasts=9)
    monkeypatch.setattr(
        sensors, "_FINDERS", {"one": lambda: "no one", "two": lambda: here, "three": lambda: "no three"}
    )
    assert find_sensor() is here and find_sensor("two") is here
    with pytest.raises(DeviceError, match="there is no sensor three: no three"):
        find_sensor("three")
    with pytest.raises(DeviceError, match=r"unknown sensor 'four'; known: auto, none"):
        find_sensor("four")


def test_where_there_is_none_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "_FINDERS", {"one": lambda: "no one", "three": lambda: "no three"})
    sensor = find_sensor("auto")
    assert isinstance(sensor, AbsentSensor)
    with pytest.raises(CheckFailed, match="energy is not measured: no one; no three"):
        sensor.begin()
