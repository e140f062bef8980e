"""Discs and squares in colour, with class masks and depth."""

import math

import numpy as np
from numpy.typing import NDArray

from edgekd.data.dataset import Dataset

SIZE = 64  # pixels
BACKGROUND_DEPTH = 1.0
LABELS = ("background", "disc", "square")


def shapes_seg(samples: int = 600, seed: int = 0) -> Dataset:
    """Return images of one disc and one square each, the nearer one in front, on a slanted grey background.

    What is near looks large and bright: radius 18 (1 - depth) + 4 pixels, and colours fade to grey with depth. Both kinds
    of shapes have the same colours and areas, so only their outline tells them apart.

    Args:
        samples: how many; the last fifth is held out.
        seed: of all that is random.

    Returns:
        Input `image` (N, 3, 64, 64), float32 in about -1 to 1. Targets (N, 64, 64): 0 background, 1 disc, 2 square. Extra
        `depth` (N, 1, 64, 64), float32: 0.1 to 0.8 on a shape, 1 behind.
    """
    random = np.random.default_rng(seed)
    images = np.empty((samples, 3, SIZE, SIZE), np.float32)
    masks = np.zeros((samples, SIZE, SIZE), np.int64)
    depths = np.full((samples, 1, SIZE, SIZE), BACKGROUND_DEPTH, np.float32)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for image, mask, depth in zip(images, masks, depths[:, 0], strict=True):
        slope = random.uniform(-0.3, 0.3, 2)
        image[:] = (slope[0] * rows + slope[1] * columns) / SIZE
        for label in random.permutation([1, 2]):
            away = random.uniform(0.1, 0.8)
            inside = _inside(int(label), 18 * (1 - away) + 4, random.uniform(10, SIZE - 10, 2), rows, columns)
            inside &= depth > away
            colour = random.choice([-1.0, 1.0], 3) * random.uniform(0.4, 1.0, 3) * (1 - 0.7 * away)
            image[:, inside] = colour[:, None]
            mask[inside], depth[inside] = label, away
    images += random.normal(0, 0.15, images.shape).astype(np.float32)
    return Dataset(
        inputs={"image": images},
        targets=masks,
        held_out=np.arange(samples) >= samples - samples // 5,
        labels=LABELS,
        origin=f"shapes-seg, seed {seed}",
        provenance="made by edgekd.data.synthetic",
        licence="CC0-1.0",
        extras={"depth": depths},
    )


def _inside(
    label: int, radius: float, centre: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return the pixels of a disc of that radius, or of a square of the same area."""
    down, right = np.abs(rows - centre[0]), np.abs(columns - centre[1])
    if label == 1:
        return np.asarray(down**2 + right**2 <= radius**2)
    return np.asarray(np.maximum(down, right) <= radius * math.sqrt(math.pi) / 2)
