"""A figure: one number with its unit, how it was obtained and its spread; or absent, with the reason."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

How = Literal["measured", "counted", "compiled", "emulated", "predicted", "published"]


def in_digits(value: float, unit: str, sign: Literal["", "+"] = "") -> str:
    """Return a score as text: two decimals in percent and dB, four digits in what has no common scale."""
    if unit in ("%", "dB"):
        return f"{round(value, 2) + 0.0:{sign}.2f}"
    return f"{value + 0.0:{sign}.4g}"


@dataclass(frozen=True)
class Figure:
    """One number that says what it is.

    `how` is `measured` (by running it, on `on`), `counted` (read off a file or a graph), `compiled` (told by a
    vendor's compiler), `emulated`, `predicted` or `published`. A figure that nobody obtained has no value and a
    `reason`; it is never 0 and never made up.
    """

    unit: str
    value: float | None
    how: How | None = None
    on: str | None = None
    low: float | None = None  # interval, in the figure's unit
    high: float | None = None
    samples: int | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        """Refuse a number without its origin and an absence without its reason."""
        if self.value is not None and self.how is None:
            raise ValueError("a figure with a value says how it was obtained")
        if self.value is None and not self.reason:
            raise ValueError("an absent figure gives the reason")

    @classmethod
    def absent(cls, unit: str, reason: str) -> "Figure":
        """Return the figure nobody obtained."""
        return cls(unit, None, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: the fields that are set, `value` always."""
        return {key: value for key, value in asdict(self).items() if value is not None or key == "value"}
