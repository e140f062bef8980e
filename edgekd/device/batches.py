"""Run any number of samples through a model, whatever batch it was exported with."""

from collections.abc import Mapping

import numpy as np

from .arrays import Array
from .errors import DeviceError
from .runtimes.session import Session


def run_all(session: Session, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs for all samples, in order.

    A model with a fixed batch gets batches of that size, the last one filled up with copies of its last sample. One
    with a free batch gets a sample at a time, as on the board, which also needs the least memory. Arrays without a
    common first dimension are run at once.

    Raises:
        DeviceError: The runtime refuses the inputs, or the outputs of batches cannot be joined.
    """
    samples = _first_dimension(feeds)
    fixed = fixed_batch(session)
    size = fixed or 1
    if samples is None or samples == size:
        return session.run(dict(feeds))
    parts: list[dict[str, Array]] = []
    for start in range(0, samples, size):
        rows = np.minimum(np.arange(start, start + size), samples - 1)
        part = session.run({name: array[rows] for name, array in feeds.items()})
        if any(array.shape[:1] != (size,) for array in part.values()):
            if fixed is None:
                return session.run(dict(feeds))
            raise DeviceError(f"the model takes {size} sample(s) at a time and its outputs cannot be split by sample")
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts])[:samples] for name in parts[0]}


def _first_dimension(feeds: Mapping[str, Array]) -> int | None:
    sizes = {array.shape[0] if array.ndim else 0 for array in feeds.values()}
    return sizes.pop() or None if len(sizes) == 1 else None


def fixed_batch(session: Session) -> int | None:
    """Return the batch that a model was exported with, or None where it is free."""
    sizes = {info.shape[0] for info in session.inputs if info.shape and isinstance(info.shape[0], int)}
    return int(sizes.pop()) if len(sizes) == 1 else None
