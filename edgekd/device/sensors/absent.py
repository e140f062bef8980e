"""The sensor of a machine without one: it says why there is no figure."""

from ..errors import CheckFailed
from .sensor import Sensor, Window


class AbsentSensor(Sensor):
    """Measures nothing, and says what was looked for."""

    name = "none"
    covers = "nothing"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __enter__(self) -> Sensor:
        """Refuse, with the reason."""
        raise self._refusal()

    def begin(self) -> None:
        """Refuse, with the reason."""
        raise self._refusal()

    def end(self) -> Window:
        """Refuse, with the reason."""
        raise self._refusal()

    def _refusal(self) -> CheckFailed:
        return CheckFailed(self.reason)
