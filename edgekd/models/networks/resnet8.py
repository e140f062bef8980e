"""ResNet-8, the image-classification network of MLPerf Tiny."""

from collections.abc import Sequence

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)).

    Input (N, in_channels, H, W); output (N, out_channels, H / stride, W / stride).
    The shortcut is the identity unless the shape changes, then a strided 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut: nn.Module = (
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes_shape else nn.Identity()
        )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet8(nn.Module):
    """A stem and one residual block a width; the second and later blocks halve the resolution.

    Input (N, in_channels, H, W); output logits (N, num_classes). With the default widths it is the
    MLPerf Tiny network; more widths or several blocks a width give its deeper relatives.

    Source: Banbury et al., MLPerf Tiny Benchmark, 2021; He et al., Deep Residual Learning, 2016.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        num_classes: int = 10,
        in_channels: int = 3,
        blocks_per_width: int = 1,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks_per_width):
                blocks.append(ResidualBlock(channels, width, stride=2 if stage and not block else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.flatten(self.pool(self.blocks(self.stem(x)))))
