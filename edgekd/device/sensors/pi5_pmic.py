"""The power management chip of the Raspberry Pi 5, through `vcgencmd pmic_read_adc`.

It tells current and voltage of twelve rails. Their sum misses what the converters lose and what does not pass through them, so
the board's power is a published line through measurements at the socket: 1.1451 x sum + 0.5879 W (jfikar/RPi5-power).
"""

import re
import subprocess

from ..errors import CheckFailed
from .sensor import CommandSensor

SLOPE, OFFSET_W = 1.1451, 0.5879
_READING = re.compile(r"(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]")


class Pi5Pmic(CommandSensor):
    """Calls `vcgencmd` for every sample, which costs about ten milliseconds of one core."""

    name = "pi5-pmic"
    covers = "the board, by a published fit (1.1451 x the rails + 0.5879 W)"
    command = "vcgencmd"
    interval_s = 0.2

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.power_w()

    def power_w(self) -> float:
        """Return the power of the board."""
        try:
            done = subprocess.run([self._path, "pmic_read_adc"], capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CheckFailed(f"vcgencmd pmic_read_adc does not answer: {error}") from error
        return board_power_w(done.stdout or done.stderr)


def board_power_w(output: str) -> float:
    """Return the power of the board by what `vcgencmd pmic_read_adc` prints.

    Raises:
        CheckFailed: It tells no rail's current and voltage, as on other boards.
    """
    found = {(rail, unit): float(value) for rail, unit, value in _READING.findall(output)}
    rails = [rail for rail, unit in found if unit == "A" and (rail, "V") in found]
    if not rails:
        raise CheckFailed(
            f"vcgencmd pmic_read_adc tells no power, only the Raspberry Pi 5 does: {output.strip()[:80]!r}"
        )
    return SLOPE * sum(found[rail, "A"] * found[rail, "V"] for rail in rails) + OFFSET_W
