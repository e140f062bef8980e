"""A frame's size as people write it: `640x480`, width first."""

import re

LARGEST = 16_384


def frame_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= side <= LARGEST for side in size):
        raise ValueError(f"{text!r} is no size such as 640x480, width first, of 1 to {LARGEST} pixels a side")
    return size
