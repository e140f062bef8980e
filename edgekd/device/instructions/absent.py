"""The counter of a machine without one: it says why there is no figure."""

from ..errors import CheckFailed
from .counter import InstructionCounter


class AbsentCounter(InstructionCounter):
    """Counts nothing, and says what was looked for."""

    name = "none"
    how = "absent"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def read(self) -> int:
        """Refuse, with the reason."""
        raise CheckFailed(f"instructions are not counted: {self.reason}")
