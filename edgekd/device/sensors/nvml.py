"""NVML: the energy counter, or else the power, of NVIDIA GPUs. It covers the GPU's board, not the machine.

Jetson modules answer NVML without power: there INA3221 measures.
"""

from typing import Any

from ..errors import CheckFailed
from .sensor import EnergyCounter, PowerSensor, Sensor


def find(index: int = 0) -> Sensor | str:
    """Return the sensor of a GPU, or why there is none."""
    try:
        import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return "NVML needs its Python package: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(handle)
    except pynvml.NVMLError as error:
        return f"NVML finds no GPU: {error}"
    for kind in (NvmlEnergy, NvmlPower):
        try:
            return kind(pynvml, handle, name)
        except CheckFailed as failure:
            reason = str(failure)
    return reason


class NvmlEnergy(EnergyCounter):
    """The counter in mJ that GPUs from Volta on have."""

    name = "nvml"

    def __init__(self, nvml: Any, handle: Any, gpu: str) -> None:
        self._nvml, self._handle = nvml, handle
        self.covers = f"the GPU ({gpu})"
        self.energy_j()

    def energy_j(self) -> float:
        """Return the joules since the driver was loaded."""
        return _ask(self._nvml, "nvmlDeviceGetTotalEnergyConsumption", self._handle) / 1000


class NvmlPower(PowerSensor):
    """The power in mW; the driver renews it about every 100 ms."""

    name = "nvml"
    interval_s = 0.1

    def __init__(self, nvml: Any, handle: Any, gpu: str) -> None:
        self._nvml, self._handle = nvml, handle
        self.covers = f"the GPU ({gpu})"
        self.power_w()

    def power_w(self) -> float:
        """Return the power of the GPU."""
        return _ask(self._nvml, "nvmlDeviceGetPowerUsage", self._handle) / 1000


def _ask(nvml: Any, function: str, handle: Any) -> float:
    try:
        return float(getattr(nvml, function)(handle))
    except nvml.NVMLError as error:
        raise CheckFailed(f"NVML has no figure of power for this GPU: {error}") from error
