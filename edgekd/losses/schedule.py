"""Coefficients that change over training."""

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema


class Schedule(BaseModel):
    """A number that goes from `start` to `end` between two moments of training, and stays there.

    Moments are shares of training, 0 to 1. Written as a plain number it is constant:
    `weight = 0.5` or `weight = { start = 0.0, end = 1.0, shape = "cosine", until = 0.3 }`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: float = Field(description="value up to `since`")
    end: float = Field(description="value from `until` on")
    shape: Literal["linear", "cosine", "step"] = Field(default="linear", description="step: jumps at `until`")
    since: float = Field(default=0.0, ge=0, le=1, description="moment at which it begins to change")
    until: float = Field(default=1.0, ge=0, le=1, description="moment from which it stays")

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if not isinstance(value, (int, float, dict, Schedule)):
            raise ValueError(f"{value!r} is neither a number nor a table {{ start = ..., end = ... }}")
        return {"start": value, "end": value} if isinstance(value, (int, float)) else value

    @model_validator(mode="after")
    def _ordered(self) -> "Schedule":
        if self.since > self.until:
            raise ValueError("since comes before until")
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError("start and end are finite numbers")
        return self

    @model_serializer(mode="wrap")
    def _as_number(self, handler: SerializerFunctionWrapHandler) -> Any:
        return self.start if self.start == self.end else handler(self)

    def at(self, progress: float) -> float:
        """Return the value at a moment of training, 0 to 1."""
        if progress >= self.until:
            return self.end
        if progress <= self.since or self.shape == "step":
            return self.start
        share = (progress - self.since) / (self.until - self.since)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.start + (self.end - self.start) * share

    @property
    def always_zero(self) -> bool:
        """Return whether the value is 0 throughout."""
        return self.start == 0 == self.end

    def __str__(self) -> str:
        """Write a constant as its number, else both ends."""
        return f"{self.start:g}" if self.start == self.end else f"{self.start:g} to {self.end:g}"


class _Bounds:
    """Ask that both ends of a schedule lie in an interval; the open end is left out."""

    def __init__(self, low: float, high: float, *, above: bool) -> None:
        self.low, self.high, self.above = low, high, above

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Schedule) -> Schedule:
            for end in (value.start, value.end):
                if not self.low <= end <= self.high or (self.above and end == self.low):
                    first = "above" if self.above else "at least"
                    raise ValueError(f"its values are {first} {self.low:g} and at most {self.high:g}, not {end:g}")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


Temperature = Annotated[Schedule, _Bounds(0, 100, above=True)]
Share = Annotated[Schedule, _Bounds(0, 1, above=False)]


def constant(value: float) -> Schedule:
    """Return the schedule that stays at a value."""
    return Schedule(start=value, end=value)


Coefficient = Annotated[Schedule, _Bounds(0, 1e9, above=False)]
