"""DS-CNN, the keyword-spotting network of MLPerf Tiny."""

from torch import Tensor, nn

from edgekd.models.networks.mobilenet_v1 import separable_conv


class DsCnn(nn.Module):
    """A 10x4 strided convolution over the spectrogram, then depthwise separable convolutions of one width.

    Input (N, 1, frames, coefficients), 1x49x10 in MLPerf Tiny; output logits (N, num_classes).
    The defaults are the MLPerf Tiny network without its dropout. The stem pads 5 frames on both sides, where
    TensorFlow's "same" pads 4 before and 5 after: the features are those of a clip shifted by one frame.

    Source: Zhang et al., Hello Edge, 2017; Banbury et al., MLPerf Tiny Benchmark, 2021.
    """

    def __init__(self, width: int = 64, num_classes: int = 12, in_channels: int = 1, num_blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, (10, 4), stride=2, padding=(5, 1), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*[separable_conv(width, width) for _ in range(num_blocks)])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.flatten(self.pool(self.blocks(self.stem(x)))))
