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
    samples = [PowerSample(*one) for one in ((0.0, 9.0), (1.0, 2.0), (2.0, 4.0), (4.0, 4.0), (6.0, 9.0))]
    window = integrate(samples[1:4], 1.0, 4.0, interval_s=1.0)
    assert (window.joules, window.seconds, window.samples) == (11.0, 3.0, 3)
    assert window.watts == pytest.approx(11 / 3)
    wider = integrate(samples, 0.5, 5.0, interval_s=1.0)  # up to its ends the power is that of the nearest within
    assert (wider.joules, wider.seconds, wider.samples) == (11.0 + 0.5 * 2.0 + 1.0 * 4.0, 4.5, 3)


def test_samples_that_do_not_cover_the_window_give_no_figure() -> None:
    samples = [PowerSample(0.1 * number, 2.0) for number in range(11)]
    assert integrate(samples, 0.0, 1.0, 0.1).joules == pytest.approx(2.0)
    for began_s, ended_s in ((0.0, 2.0), (-1.0, 1.0)):
        with pytest.raises(CheckFailed, match="no sample for 1 of 2 s: it stalled"):
            integrate(samples, began_s, ended_s, 0.1)
    with pytest.raises(CheckFailed, match="it stalled"):
        integrate([*samples[:3], *samples[9:]], 0.0, 1.0, 0.1)
    three_percent = [PowerSample(0.0, 3.0), PowerSample(0.01, 3.0)]
    with pytest.raises(CheckFailed, match="no sample for 0.29 of 0.3 s: it stalled"):
        integrate(three_percent, 0.0, 0.3, 0.05)
    with pytest.raises(CheckFailed, match="run backwards"):
        integrate(samples[::-1], 0.0, 1.0, 0.1)
    for too_few in (samples[:1], []):
        with pytest.raises(CheckFailed, match="measure for longer"):
            integrate(too_few, 0.0, 1.0, 0.1)


def test_a_short_window_of_a_slow_sensor_may_miss_one_sample() -> None:
    samples = [PowerSample(0.05 * number, 3.0) for number in (0, 1, 3, 4, 6)]
    assert integrate(samples, 0.0, 0.3, 0.05).joules == pytest.approx(0.9)


@pytest.mark.parametrize("power_w", [float("nan"), float("inf"), -0.1, 1e300])
def test_what_is_no_power_is_no_sample(power_w: float) -> None:
    with pytest.raises(CheckFailed, match="no power that a board takes"):
        PowerSample(0.0, power_w)


def test_a_sensor_that_fails_while_it_is_read_fails_the_window() -> None:
    sensor = Ramp(lasts=3)
    sensor.begin()
    assert sensor.read.wait(10)
    with pytest.raises(CheckFailed, match="pulled out"):
        sensor.end()


def test_a_window_that_is_left_open_is_closed() -> None:
    sensor = Ramp(lasts=10_000)
    with pytest.raises(RuntimeError), sensor:
        sensor.begin()
        raise RuntimeError
    assert not any(thread.name == "ramp sampler" for thread in threading.enumerate())


def test_a_sensor_that_cannot_be_read_fails_at_once() -> None:
    with pytest.raises(CheckFailed, match="pulled out"):
        Ramp(lasts=0).begin()


def test_the_first_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Ramp(lasts=9)
    monkeypatch.setattr(
        sensors, "_FINDERS", {"one": lambda: "no one", "two": lambda: here, "three": lambda: "no three"}
    )
    assert find_sensor() is here and find_sensor("two") is here
    with pytest.raises(CheckFailed, match="no three"), find_sensor("three"):
        pass
    for name in ("four", "nvml:", "nvml:x", "meter"):
        with pytest.raises(DeviceError, match=rf"unknown sensor '{name}'; known: auto, none") as refused:
            find_sensor(name)
        assert refused.value.exit_code == 2


def test_where_there_is_none_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "_FINDERS", {"one": lambda: "no one", "three": lambda: "no three"})
    sensor = find_sensor("auto")
    assert isinstance(sensor, AbsentSensor)
    with pytest.raises(CheckFailed, match="^no one; no three$"):
        sensor.begin()
