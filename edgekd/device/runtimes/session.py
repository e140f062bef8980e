"""What every runtime offers: a model opened from a file, its inputs and outputs, and a call."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..arrays import Array


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a model.

    `shape` holds an integer for a fixed dimension and a name for one that is free. `dtype` is numpy's name, such as
    `float32`.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class NodeTime:
    """A node that ran, by the runtime's own profile: its name in the file (or the runtime's own), operator and median time.

    `dtype` is the element type that it computed with, such as `uint8`, None where the runtime does not tell.
    """

    name: str
    operator: str
    time_us: float
    dtype: str | None


class Session(ABC):
    """A model opened by a runtime."""

    inputs: list[TensorInfo]
    outputs: list[TensorInfo]

    @abstractmethod
    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Return all outputs by name for the given inputs by name.

        Raises:
            DeviceError: The runtime refuses the inputs.
        """

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Return `runtime`, `version`, `provider` (what executes the model) and `threads`."""

    def own_ms(self) -> float | None:
        """Return what the last call took by the runtime's own clock, in milliseconds; None where it has none."""
        return None


def check_shape(array: Array, info: TensorInfo) -> str | None:
    """Return what is wrong with the array's shape as this input or output, or None."""
    return misfit(array.shape, info)


def misfit(shape: Sequence[int], info: TensorInfo) -> str | None:
    """Return what is wrong with a shape as this input or output, or None."""
    fits = _shapes_fit(shape, info.shape)
    return None if fits else f"{info.name!r} has shape {list(shape)}, expected {list(info.shape)}"


def same_signature(one: Mapping[str, TensorInfo], other: Mapping[str, TensorInfo]) -> bool:
    """Return whether names, dtypes, ranks and the dimensions that both sides fix are the same."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and _shapes_fit(one[name].shape, other[name].shape) for name in one
    )


def _shapes_fit(one: Sequence[int | str], other: Sequence[int | str]) -> bool:
    return len(one) == len(other) and all(
        isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(one, other, strict=True)
    )
