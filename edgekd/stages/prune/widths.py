"""Which widths a group of channels may be cut to, and which of its channels go."""

import math

from torch import Tensor


def least_width(width: int, largest_cut: float, multiple: int) -> int:
    """Return how many of `width` channels have to stay, as a multiple; all of them where no multiple fits."""
    return min(width, max(1, _up(width * (1 - largest_cut), multiple)))


def legal_width(wanted: float, width: int, largest_cut: float, multiple: int) -> int:
    """Return the least multiple that is not below the wanted number of channels, nor below what has to stay."""
    return min(width, max(_up(wanted, multiple), least_width(width, largest_cut, multiple)))


def least_important(values: Tensor, parts: int, count: int) -> list[int]:
    """Return the indices of the least important channels, `count` in each of the equal parts of a group.

    Args:
        values: the importance of all channels, (parts x width,).
        parts: that lose channels at the same places each.
        count: how many.
    """
    places = values.view(parts, -1).mean(0).argsort(stable=True)[:count].tolist()
    width = len(values) // parts
    return sorted(place + part * width for part in range(parts) for place in places)


def _up(channels: float, multiple: int) -> int:
    return math.ceil(channels / multiple - 1e-9) * multiple
