"""NVML stands in as a module: with an energy counter, with power alone, and with neither."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.device.sensors import find_sensor, nvml


class NVMLError(Exception):
    """NVML's own."""


def installed(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """Install a `pynvml` that has one GPU and these functions; the others are not supported."""

    def unsupported(handle: object) -> float:
        raise NVMLError("Not Supported")

    known = {"nvmlDeviceGetTotalEnergyConsumption": unsupported, "nvmlDeviceGetPowerUsage": unsupported, **functions}
    found = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetName=lambda handle: f"H200 of {handle}",
    )
    vars(found).update(known)
    monkeypatch.setitem(sys.modules, "pynvml", found)


def test_the_counter_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([1_000, 2_000, 5_500])
    installed(
        monkeypatch,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings),
        nvmlDeviceGetPowerUsage=lambda handle: 10_000,
    )
    sensor = nvml.find()
    assert isinstance(sensor, nvml.NvmlEnergy) and sensor.covers == "GPU 0 (H200 of 0)"
    sensor.begin()
    assert sensor.end().joules == pytest.approx(3.5)


def test_else_the_power(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, nvmlDeviceGetPowerUsage=lambda handle: 12_500)
    sensor = nvml.find()
    assert isinstance(sensor, nvml.NvmlPower) and sensor.power_w() == 12.5


def test_a_gpu_that_tells_neither_is_no_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    assert nvml.find() == "NVML has no figure of power for this GPU: Not Supported"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.find() == "NVML needs its Python package: pip install nvidia-ml-py"


def test_the_gpu_is_the_one_that_is_named_or_that_cuda_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, nvmlDeviceGetPowerUsage=lambda handle: 12_500)
    for visible, covers in (
        ("2,1", "GPU 2 (H200 of 2)"),
        ("GPU-7b", "GPU GPU-7b (H200 of GPU-7b)"),
        ("", "GPU 0 (H200 of 0)"),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert find_sensor("nvml").covers == covers
    assert find_sensor("nvml:1").covers == "GPU 1 (H200 of 1)"
