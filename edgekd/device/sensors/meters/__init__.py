"""External meters: whatever measures in front of the board and writes a CSV file or to a serial line."""

import os
import stat
from pathlib import Path

from ...errors import DeviceError
from ..absent import AbsentSensor
from ..sensor import Sensor
from .csv_meter import CsvMeter
from .serial_meter import SerialMeter


def open_meter(name: str) -> Sensor:
    """Return the meter behind a CSV file or a serial line, or why it may not be read.

    Raises:
        DeviceError: The name is empty, or that of neither.
    """
    if not name:
        raise DeviceError("the sensor meter: names no file: meter:FILE is a CSV file that grows, or a serial line")
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DeviceError(f"{path} does not exist: start the meter's program first, or name its serial line") from error
    except OSError as error:
        raise DeviceError(f"the meter {path} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
        raise DeviceError(f"the meter {path} is neither a file nor a serial line")
    if not os.access(path, os.R_OK):
        return AbsentSensor(f"{path} may not be read: join the group that it belongs to, or run as root")
    return SerialMeter(path) if stat.S_ISCHR(mode) else CsvMeter(path)
