"""NVML: the energy counter, or else the power, of one NVIDIA GPU. It covers the GPU's board, not the machine.

Jetson modules answer NVML without power: there INA3221 measures.
"""

import os
from typing import Any

from ..errors import CheckFailed
from .sensor import EnergyCounter, PowerSensor, Sensor


def find(number: int | None = None) -> Sensor | str:
    """Return the sensor of a GPU, or why there is none.

    Args:
        number: As `nvidia-smi` counts; by default the first that CUDA_VISIBLE_DEVICES names, or 0.
    """
    try:
        import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return "NVML needs its Python package: pip install nvidia-ml-py"
    wanted = _first_visible() if number is None else str(number)
    try:
        pynvml.nvmlInit()
        if wanted.isdecimal():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(wanted))
        else:
            handle = pynvml.nvmlDeviceGetHandleByUUID(wanted)
        covers = f"GPU {wanted} ({pynvml.nvmlDeviceGetName(handle)})"
    except pynvml.NVMLError as error:
        return f"NVML finds no GPU {wanted}: {error}"
    for kind in (NvmlEnergy, NvmlPower):
        try:
            return kind(pynvml, handle, covers)
        except CheckFailed as failure:
            reason = str(failure)
    return reason


def _first_visible() -> str:
    """Return the number or the UUID of the GPU that CUDA takes first."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


class NvmlEnergy(EnergyCounter):
    """The counter in mJ that GPUs from Volta on have."""

    name = "nvml"
    interval_s = 0.1

    def __init__(self, nvml: Any, handle: Any, covers: str) -> None:
        self._nvml, self._handle, self.covers = nvml, handle, covers
        self.energy_j()

    def energy_j(self) -> float:
        """Return the joules since the driver was loaded."""
        return _ask(self._nvml, "nvmlDeviceGetTotalEnergyConsumption", self._handle) / 1000


class NvmlPower(PowerSensor):
    """The power in mW; the driver renews it about every 100 ms."""

    name = "nvml"
    interval_s = 0.1

    def __init__(self, nvml: Any, handle: Any, covers: str) -> None:
        self._nvml, self._handle, self.covers = nvml, handle, covers
        self.power_w()

    def power_w(self) -> float:
        """Return the power of the GPU."""
        return _ask(self._nvml, "nvmlDeviceGetPowerUsage", self._handle) / 1000


def _ask(nvml: Any, function: str, handle: Any) -> float:
    try:
        return float(getattr(nvml, function)(handle))
    except nvml.NVMLError as error:
        raise CheckFailed(f"NVML has no figure of power for this GPU: {error}") from error
