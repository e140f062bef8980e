"""A meter whose program writes a CSV file, and goes on writing while this reads.

Its header has a column of seconds since 1970 (`time_s`) and one of watts (`power_w`).
"""

import csv
import os
import re
import time
from pathlib import Path

from ...errors import CheckFailed, DeviceError
from ..sensor import PowerSample
from .meter import NUMBER, Meter

_TIME, _POWER = "time_s", "power_w"
_CHUNK_BYTES = 1 << 20
_LONGEST_LINE = 4096


class CsvMeter(Meter):
    """Reads what is appended to the file; what stood there before is not looked at."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with path.open("rb") as file:
                header = file.readline(_LONGEST_LINE).decode("utf-8-sig", errors="replace").strip()
        except OSError as error:
            raise DeviceError(f"{path} cannot be read: {error.strerror}") from error
        columns = [name.strip() for name in header.split(",")]
        if [columns.count(name) for name in (_TIME, _POWER)] != [1, 1]:
            raise DeviceError(f"{path} needs one column {_TIME} (since 1970) and one {_POWER}, separated by commas")
        self._fields, self._time, self._power = len(columns), columns.index(_TIME), columns.index(_POWER)

    def now_s(self) -> float:
        """Return the seconds since 1970."""
        return time.time()

    def open(self) -> None:
        """Count the lines that are there, and go to the beginning of the last one, which may be half written."""
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise CheckFailed(f"{self._path} cannot be read: {error.strerror}") from error
        self._line, self._position, left = 0, 0, os.fstat(self._file.fileno()).st_size
        read = 0
        while left > 0 and (chunk := self._file.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            self._line += chunk.count(b"\n")
            if b"\n" in chunk:
                self._position = read + chunk.rindex(b"\n") + 1
            read += len(chunk)
        self._last_s = float("-inf")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def arrived(self) -> list[PowerSample]:
        """Return the samples of the lines that were completed since."""
        try:
            if os.fstat(self._file.fileno()).st_size < self._position:
                raise CheckFailed(f"{self._path} became shorter while it was read")
            self._file.seek(self._position)
            content = self._file.read(_CHUNK_BYTES)
        except OSError as error:
            raise CheckFailed(f"{self._path} cannot be read: {error.strerror}") from error
        complete = content[: content.rfind(b"\n") + 1]
        if len(content) - len(complete) > _LONGEST_LINE:
            raise CheckFailed(f"{self._path}, line {self._line + 1}: no end of the line within {_LONGEST_LINE} bytes")
        self._position += len(complete)
        return [self._sample(line) for line in complete.splitlines()]

    def _sample(self, line: bytes) -> PowerSample:
        self._line += 1
        try:
            (fields,) = csv.reader([line.decode("utf-8")])
            if not any(field.strip() for field in fields):
                raise ValueError("it is empty")
            if len(fields) != self._fields:
                comma = " (is that a decimal comma?)" if len(fields) > self._fields else ""
                raise ValueError(f"{len(fields)} fields, the header has {self._fields}{comma}")
            found = PowerSample(_number(fields[self._time], _TIME), _number(fields[self._power], _POWER))
            if found.time_s < self._last_s:
                raise ValueError("its time is before that of the line above")
        except (ValueError, csv.Error, CheckFailed) as error:
            raise CheckFailed(f"{self._path}, line {self._line}: {error}") from error
        self._last_s = found.time_s
        return found


def _number(field: str, column: str) -> float:
    if not re.fullmatch(NUMBER, field.strip()):
        raise ValueError(f"{column} is {'missing' if not field.strip() else f'no number: {field[:80]!r}'}")
    return float(field)
