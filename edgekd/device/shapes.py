"""Shapes of inputs as people write them: `1x3x224x224`, or `image=1x3x224x224` where there are several inputs."""

import re

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
