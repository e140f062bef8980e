"""The fully connected autoencoder for anomaly detection of MLPerf Tiny."""

from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Four hidden layers, a bottleneck and four hidden layers, each with batch norm and ReLU; then a linear output.

    Input and output (N, in_features); the mean squared difference of the two is the anomaly score.
    In MLPerf Tiny the 640 features are five frames of a 128-band log-mel spectrogram.

    Source: Koizumi et al., DCASE 2020 task 2 baseline, 2020; Banbury et al., MLPerf Tiny Benchmark, 2021.
    """

    def __init__(self, in_features: int = 640, hidden: int = 128, bottleneck: int = 8) -> None:
        super().__init__()
        widths = [in_features, *[hidden] * 4, bottleneck, *[hidden] * 4]
        layers: list[nn.Module] = []
        for before, width in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.reconstruct = nn.Linear(hidden, in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction."""
        return self.reconstruct(self.layers(x))
