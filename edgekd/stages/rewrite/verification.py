"""Did a rewrite keep the function? Outputs before and after, on the validation part."""

from dataclasses import dataclass

import numpy as np

from edgekd.errors import StageError
from edgekd.evaluate import Outputs


@dataclass(frozen=True)
class Difference:
    """The largest difference of any output, and as a share of the largest output."""

    largest: float
    relative: float


def difference_of(before: Outputs, after: Outputs) -> Difference:
    """Compare outputs by name.

    Raises:
        StageError: names or shapes changed.
    """
    shapes = [{name: array.shape for name, array in outputs.items()} for outputs in (before, after)]
    if shapes[0] != shapes[1]:
        raise StageError(f"the outputs changed from {shapes[0]} to {shapes[1]}")
    largest, relative = 0.0, 0.0
    for name, array in before.items():
        off = float(np.abs(after[name].astype(np.float64) - array).max(initial=0.0))
        largest = max(largest, off)
        scale = float(np.abs(array).max(initial=0.0))
        relative = max(relative, off / scale if scale > 0 else off)
    return Difference(largest, relative)
