"""MobileNetV1, the visual-wake-words network of MLPerf Tiny."""

from torch import Tensor, nn


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution that keeps H / stride x W / stride, its batch norm and its ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def separable_conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return a depthwise separable convolution: a 3x3 one a channel, then a 1x1 one across channels.

    Input (N, in_channels, H, W); output (N, out_channels, H / stride, W / stride).
    """
    depthwise = conv_bn_relu(in_channels, in_channels, stride=stride, groups=in_channels)
    pointwise = conv_bn_relu(in_channels, out_channels, kernel=1)
    return nn.Sequential(*depthwise, *pointwise)


class MobileNetV1(nn.Module):
    """A strided stem and thirteen depthwise separable convolutions; the resolution falls by 32.

    Input (N, in_channels, H, W), 3x96x96 in MLPerf Tiny; output logits (N, num_classes).
    `width` multiplies every channel count; 0.25 is the MLPerf Tiny network. Padding is symmetric, where
    TensorFlow's strided "same" convolutions pad only the far edge.

    Source: Howard et al., MobileNets, 2017; Banbury et al., MLPerf Tiny Benchmark, 2021.
    """

    def __init__(self, width: float = 0.25, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__()
        plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
        channels = int(32 * width)
        self.stem = nn.Sequential(*conv_bn_relu(in_channels, channels, stride=2))
        blocks: list[nn.Module] = []
        for full_width, stride in plan:
            out_channels = int(full_width * width)
            blocks.append(separable_conv(channels, out_channels, stride))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.flatten(self.pool(self.blocks(self.stem(x)))))
