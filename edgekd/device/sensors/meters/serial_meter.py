"""A meter at a serial line: a line of text a sample. The line's speed is set before, with `stty`."""

import os
import queue
import re
import select
import threading
import time
from pathlib import Path

from ...errors import CheckFailed, DeviceError
from ..sensor import PowerSample
from .meter import NUMBER, Meter

_NOT_BEFORE = r"(?<![\w.'+<>\ufffd-])(?<!\d:)"  # else it is the end of a longer number, a time, or a bound
_NOT_AFTER = r"(?![\w/*^·-]|\s*[:=]|[ .]h\b)"  # else it is another unit, or the label of what follows
_WATTS = re.compile(rf"{_NOT_BEFORE}({NUMBER})\s*([mkuµμ]?)(?:W|[Ww]atts?){_NOT_AFTER}")
_IN_WATTS = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6}
_BEHIND = re.compile(rf"\s+{NUMBER}")
_IN_FRONT = re.compile(rf"[^\W\d_]+\s+{NUMBER}|.*\s{NUMBER}$")  # V 5.0 W 3.25: units may stand before their numbers
_LAST = re.compile(rf"(?:^|[\s,;])({NUMBER})$")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_FINITE = re.compile(r"(?<![a-z])(nan|inf|infinity)(?![a-z])", re.IGNORECASE)
_LONGEST_LINE = 4096
_LOOK_MS = 100


class SerialMeter(Meter):
    """Reads the line in a thread, which notes when each sample came."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            line = self._open_line()
        except OSError as error:
            raise DeviceError(f"{path} cannot be opened: {error.strerror}") from error
        is_terminal = os.isatty(line)
        os.close(line)
        if not is_terminal:
            raise DeviceError(f"the meter {path} is a device, but no serial line")

    def now_s(self) -> float:
        """Return the time of the monotonic clock."""
        return time.monotonic()

    def open(self) -> None:
        """Forget what the line still holds, and start the thread."""
        import termios  # not on Windows

        try:
            self._line = self._open_line()
            termios.tcflush(self._line, termios.TCIFLUSH)
        except (OSError, termios.error) as error:
            raise CheckFailed(f"{self._path} cannot be opened: {error}") from error
        self._read: queue.SimpleQueue[PowerSample | CheckFailed] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="meter reader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and close the line."""
        self._stop.set()
        self._thread.join()
        os.close(self._line)

    def arrived(self) -> list[PowerSample]:
        """Return the samples that the thread has read since."""
        found = []
        while not self._read.empty():
            one = self._read.get()
            if isinstance(one, CheckFailed):
                raise one
            found.append(one)
        return found

    def _open_line(self) -> int:
        return os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)

    def _follow(self) -> None:
        try:
            self._read_lines()
        except CheckFailed as failure:
            self._read.put(failure)

    def _read_lines(self) -> None:
        ready = select.poll()
        ready.register(self._line, select.POLLIN)
        number, rest = 0, b""
        while not self._stop.is_set():
            if not ready.poll(_LOOK_MS):
                continue
            try:
                received = os.read(self._line, _LONGEST_LINE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise CheckFailed(f"{self._path} went away: {error.strerror}") from error
            if not received:
                raise CheckFailed(f"{self._path} was hung up")
            now_s = self.now_s()
            *lines, rest = (rest + received).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                raise CheckFailed(f"{self._path}: no end of a line within {_LONGEST_LINE} bytes: is its speed right?")
            for line in lines:
                number += 1
                if number > 1:  # the first may have begun before
                    self._take(now_s, line.decode("utf-8", errors="replace").strip(), number)

    def _take(self, now_s: float, line: str, number: int) -> None:
        try:
            watts = power_of(line)
            if watts is not None:
                self._read.put(PowerSample(now_s, watts))
        except (ValueError, CheckFailed) as error:
            raise CheckFailed(f"{self._path}, line {number}, {line[:80]!r}: {error}") from error


def power_of(line: str) -> float | None:
    """Return the watts that a line tells; None where it has no number.

    They are its one number with a unit of power behind (W, mW, uW, kW, Watt, Watts), or the last of a line without letters.

    Raises:
        ValueError: There is no such number or more than one, it is not finite, a comma before it may be a decimal one or one of
            thousands, or there are control characters, as from a meter that paints a screen.
    """
    if _CONTROL.search(line):
        raise ValueError("it holds control characters: is the line's speed right?")
    if _NOT_FINITE.search(line):
        raise ValueError("that is no number")
    if not any(character.isdigit() for character in line):
        return None
    found = list(_WATTS.finditer(line)) or list(_LAST.finditer("" if re.search(r"[^\W\d_]", line) else line))
    if len(found) != 1 or (_BEHIND.match(line, found[0].end()) and _IN_FRONT.match(line)):
        raise ValueError("which number is the power? Let the meter write one with its unit, such as 3.25 W")
    number, unit = found[0][1], (*found[0].groups(), "")[1]
    before = re.search(r"([\d.]*\d),$", line[: found[0].start(1)])
    if before and number[0].isdigit() and _is_unclear(before[1], number):
        raise ValueError("is the comma a decimal one? Let the meter write a point, or a space after each comma")
    return float(number) * _IN_WATTS[unit]


def _is_unclear(before: str, number: str) -> bool:
    """Return whether `before,number` may be one number: 3,25 or 1,234.5, but not 0.4,2.008."""
    whole, point, _ = number.partition(".")
    return not point or ("." not in before and len(before) <= 3 and len(whole) == 3)
