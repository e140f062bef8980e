"""Classes seen through two sensors: a strong one that only the teacher has, and a weak one."""

import numpy as np
from numpy.typing import NDArray

from edgekd.data.dataset import Dataset

CLASSES = 6
HIDDEN = 8  # dimensions of what is seen
SPREAD = 1.6  # of the class centres, in standard deviations of a class


def two_view(samples: int = 3000, seed: int = 0, *, paired: bool = True) -> Dataset:
    """Return Gaussian classes in 8 dimensions, seen through two non-linear maps x = tanh(z W) + noise.

    View a (32 values) has little noise; view b (24 values) sees z with much noise, so it tells the classes apart less
    well. The classes overlap, so that what a teacher knows of a sample is more than its label.

    Args:
        samples: how many; the last third is held out.
        seed: of all that is random.
        paired: whether row i of view a is the sample that row i of view b is; otherwise its rows are permuted, among those
            held out and among the others, and only `a_targets` says which class each is.

    Returns:
        Input `b` (N, 24) for the student; targets (N,), six classes of equal size. Extras `a` (N, 32) for the teacher
        and `a_targets` (N,), the class of each of its rows.
    """
    random = np.random.default_rng(seed)
    targets = random.permutation(np.arange(samples) % CLASSES)
    centres = SPREAD * random.standard_normal((CLASSES, HIDDEN))
    hidden = centres[targets] + random.standard_normal((samples, HIDDEN))
    strong = _view(hidden, 32, 0.1, random)
    weak = _view(hidden + 1.5 * random.standard_normal(hidden.shape), 24, 0.3, random)
    held_out = np.arange(samples) >= samples - samples // 3
    order = np.arange(samples)
    if not paired:
        order = np.concatenate([random.permutation(order[~held_out]), random.permutation(order[held_out])])
    return Dataset(
        inputs={"b": weak},
        targets=targets,
        held_out=held_out,
        origin=f"two-view{'' if paired else ', shuffled'}, seed {seed}",
        provenance="made by edgekd.data.synthetic",
        licence="CC0-1.0",
        extras={"a": strong[order], "a_targets": targets[order]},
    )


def two_view_shuffled() -> Dataset:
    """Return `two_view` without pairs, for `--data edgekd.data.synthetic:two_view_shuffled`."""
    return two_view(paired=False)


def _view(hidden: NDArray[np.float64], size: int, noise: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return tanh(z W) + noise, (N, size)."""
    mixing = random.standard_normal((hidden.shape[1], size)) / np.sqrt(hidden.shape[1])
    seen = np.tanh(hidden @ mixing) + noise * random.standard_normal((len(hidden), size))
    return seen.astype(np.float32)
