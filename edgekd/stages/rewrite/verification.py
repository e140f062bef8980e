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
        StageError: names or shapes changed, or what is a finite number.
    """
    shapes = [{name: array.shape for name, array in outputs.items()} for outputs in (before, after)]
    if shapes[0] != shapes[1]:
        raise StageError(f"the outputs changed from {shapes[0]} to {shapes[1]}")
    largest, relative = 0.0, 0.0
    for name, array in before.items():
        finite = np.isfinite(array)
        if not np.array_equal(finite, np.isfinite(after[name])):
            raise StageError(f"values of the output {name} are no longer finite numbers, or were none before")
        off = float(np.abs(after[name][finite].astype(np.float64) - array[finite]).max(initial=0.0))
        largest = max(largest, off)
        scale = float(np.abs(array[finite]).max(initial=0.0))
        relative = max(relative, off / scale if scale > 0 else off)
    return Difference(largest, relative)
