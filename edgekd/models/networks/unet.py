"""A small U-Net for semantic segmentation."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def double_conv(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return two 3x3 convolutions with batch norm and ReLU: (N, in_channels, H, W) to (N, out_channels, H, W)."""
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


class UNet(nn.Module):
    """An encoder that halves the resolution a width, and a decoder that joins each level's features again.

    Input (N, in_channels, H, W), H and W divisible by 2 ** (len(widths) - 1); output logits (N, num_classes, H, W).
    Skips are concatenated. Unlike the paper's, convolutions are padded (the output has the input's size) and
    have batch norm, and the decoder upsamples by nearest neighbour.

    Source: Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__()
        levels = list(pairwise(widths))
        self.stem = nn.Sequential(*double_conv(in_channels, widths[0]))
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *double_conv(above, below)) for above, below in levels
        )
        self.upsample = nn.ModuleList(nn.Upsample(scale_factor=2.0) for _ in levels)
        self.decoder = nn.ModuleList(
            nn.Sequential(*double_conv(above + below, above)) for above, below in reversed(levels)
        )
        self.classifier = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        skips = [self.stem(x)]
        for encode in self.encoder:
            skips.append(encode(skips[-1]))
        y = skips.pop()
        for upsample, decode in zip(self.upsample, self.decoder, strict=True):
            y = decode(torch.cat([upsample(y), skips.pop()], dim=1))
        return self.classifier(y)
