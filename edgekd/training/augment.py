"""Changes to a batch of images that keep their targets."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.data.dataset import Augmentation

LARGEST_SHIFT = 1 / 14  # share of the width and height


def augment(images: Tensor, augmentations: Sequence[Augmentation], generator: torch.Generator) -> Tensor:
    """Return a batch (N, C, H, W) with the named changes drawn at random; edges are repeated where pixels are missing."""
    if "horizontal-flip" in augmentations:
        flip = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(flip[:, None, None, None].to(images.device), images.flip(-1), images)
    if "shift" in augmentations:
        height, width = images.shape[-2:]
        rows, columns = max(1, round(height * LARGEST_SHIFT)), max(1, round(width * LARGEST_SHIFT))
        top = int(torch.randint(0, 2 * rows + 1, (), generator=generator))
        left = int(torch.randint(0, 2 * columns + 1, (), generator=generator))
        padded = functional.pad(images, (columns, columns, rows, rows), mode="replicate")
        images = padded[:, :, top : top + height, left : left + width]
    return images
