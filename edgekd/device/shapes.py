"""Shapes of inputs as people write them: `1x3x224x224`, or `image=1x3x224x224` where there are several inputs."""

import re
from collections.abc import Sequence

from .errors import DeviceError
from .runtimes.session import TensorInfo, misfit

Shape = tuple[int, ...]
_LARGEST = 2**31 - 1


def named_shape(text: str) -> tuple[str, Shape]:
    """Return an input's name, "" where none is given, and its shape.

    Raises:
        ValueError: It is none.
    """
    name, equals, sizes = text.strip().rpartition("=")
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", sizes) or (equals and not name):
        raise ValueError(f"{text!r} is no shape such as 1x3x224x224 or image=1x3x224x224")
    shape = tuple(int(size) for size in sizes.split("x"))
    if not all(1 <= size <= _LARGEST for size in shape):
        raise ValueError(f"{text!r}: each size is 1 or more")
    return name, shape


def shapes_of(given: Sequence[tuple[str, Shape]], inputs: Sequence[TensorInfo], batch: int | None) -> dict[str, Shape]:
    """Return the shapes that a person gave, by the name of the input.

    Args:
        given: What `named_shape` returned.
        inputs: The model's.
        batch: Samples a call, where that was given as well.

    Raises:
        DeviceError: There is no such input, it is not clear which one is meant, or the model or the batch fixes another size.
    """
    found: dict[str, Shape] = {}
    known = {info.name: info for info in inputs}
    described = ", ".join(f"{info.name} {list(info.shape)}" for info in inputs)
    for name, shape in given:
        written = "x".join(map(str, shape))
        if not name and len(known) != 1:
            raise DeviceError(f"the model has several inputs ({described}): --shape NAME={written}")
        info = known.get(name or next(iter(known)))
        if info is None:
            raise DeviceError(f"the model has no input {name!r}; it has {described}")
        if (wrong := misfit(shape, info)) is not None:
            raise DeviceError(f"--shape {written}: {wrong}")
        if batch not in (None, shape[0]) and isinstance(info.shape[0], str):
            raise DeviceError(
                f"--shape {written} is a batch of {shape[0]}, --batch {batch} another one: give one of them"
            )
        found[info.name] = shape
    return found
