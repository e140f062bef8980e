"""MobileNetV2, the usual ImageNet network for phones."""

from torch import Tensor, nn


def scaled(channels: int, width: float) -> int:
    """Return channels * width as a multiple of 8, at most a tenth below the exact product."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels * width else rounded + 8


def conv_bn_relu6(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution that keeps H / stride x W / stride, its batch norm and its ReLU6."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    ]


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a 3x3 depthwise one, and a linear 1x1 one that narrows.

    Input (N, in_channels, H, W); output (N, out_channels, H / stride, W / stride).
    The input is added where the shape allows. An expansion of 1 leaves the first convolution out.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.body = nn.Sequential(
            *(conv_bn_relu6(in_channels, hidden, 1) if expansion != 1 else []),
            *conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.body(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """A strided stem, seventeen inverted residual blocks and a 1x1 head; the resolution falls by 32.

    Input (N, in_channels, H, W), usually 3x224x224; output logits (N, num_classes).
    `width` multiplies the channel counts; the head never falls below 1280. The dropout that the paper
    puts before the classifier is left out.

    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018, table 2.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        plan = [  # expansion, channels, blocks, stride of the first block
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        channels = scaled(32, width)
        self.stem = nn.Sequential(*conv_bn_relu6(in_channels, channels, 3, stride=2))
        blocks: list[nn.Module] = []
        for expansion, full_width, count, first_stride in plan:
            for block in range(count):
                out_channels = scaled(full_width, width)
                stride = 1 if block else first_stride
                blocks.append(InvertedResidual(channels, out_channels, stride, expansion))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        head_channels = scaled(1280, max(1.0, width))
        self.head = nn.Sequential(*conv_bn_relu6(channels, head_channels, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(head_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.flatten(self.pool(self.head(self.blocks(self.stem(x))))))
