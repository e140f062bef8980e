"""Changes to a batch of images that keep their targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from edgekd.data.dataset import Augmentation

LARGEST_SHIFT = 1 / 14  # share of the width and height


def augment(
    images: Tensor,
    augmentations: Sequence[Augmentation],
    generator: torch.Generator,
    total: int | None = None,
    share: slice = slice(None),
) -> Tensor:
    """Return a batch (N, C, H, W) with the named changes drawn at random; edges are repeated where pixels are missing.

    `total` and `share` say that these are the images at `share` of a global batch of `total`, for which is drawn.
    """
    if "horizontal-flip" in augmentations:
        flip = (torch.rand(total or len(images), generator=generator) < 0.5)[share]
        images = torch.where(flip[:, None, None, None].to(images.device), images.flip(-1), images)
    if "shift" in augmentations:
        height, width = images.shape[-2:]
        rows, columns = max(1, round(height * LARGEST_SHIFT)), max(1, round(width * LARGEST_SHIFT))
        top = int(torch.randint(0, 2 * rows + 1, (), generator=generator))
        left = int(torch.randint(0, 2 * columns + 1, (), generator=generator))
        padded = functional.pad(images, (columns, columns, rows, rows), mode="replicate")
        images = padded[:, :, top : top + height, left : left + width]
    return images


@dataclass(frozen=True)
class Variants:
    """Fixed augmentations: every sample has `count` of them, taken in turn, so that a teacher's answers can be kept."""

    count: int
    samples: int
    seed: int

    def of(self, epoch: int, augmentations: Sequence[Augmentation]) -> int:
        """Return the number of the augmentation that is due in an epoch: 0 where there is none, else from 1."""
        return epoch % self.count + 1 if augmentations else 0

    def apply(self, images: Tensor, augmentations: Sequence[Augmentation], ids: Tensor, variant: int) -> Tensor:
        """Return the images (N, C, H, W) of the samples at `ids` (N,), changed as that variant of each is."""
        if not variant:
            return images
        height, width = images.shape[-2:]
        rows, columns = max(1, round(height * LARGEST_SHIFT)), max(1, round(width * LARGEST_SHIFT))
        flip, top, left = (table[ids.cpu()].to(images.device) for table in _drawn(self, variant, rows, columns))
        if "horizontal-flip" in augmentations:
            images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        if "shift" in augmentations:
            padded = functional.pad(images, (columns, columns, rows, rows), mode="replicate")
            down = top[:, None] + torch.arange(height, device=images.device)
            across = left[:, None] + torch.arange(width, device=images.device)
            sample = torch.arange(len(images), device=images.device)[:, None, None]
            images = padded.movedim(1, -1)[sample, down[:, :, None], across[:, None, :]].movedim(-1, 1)
        return images


@lru_cache(maxsize=128)
def _drawn(variants: Variants, variant: int, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return for all samples whether they are flipped, and how far they are shifted down and across."""
    generator = torch.Generator().manual_seed(variants.seed * 1_000_003 + variant)
    flip = torch.rand(variants.samples, generator=generator) < 0.5
    top = torch.randint(0, 2 * rows + 1, (variants.samples,), generator=generator)
    left = torch.randint(0, 2 * columns + 1, (variants.samples,), generator=generator)
    return flip, top, left
