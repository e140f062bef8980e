"""A small recurrent classifier of sequences."""

from torch import Tensor, nn


class GruClassifier(nn.Module):
    """Gated recurrent units over the steps; the last step's state is classified.

    Input (N, steps, in_features), by default ten spectrogram coefficients a step as in keyword spotting;
    output logits (N, num_classes).

    Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014; Zhang et al., Hello Edge, 2017.
    """

    def __init__(self, in_features: int = 10, hidden: int = 64, num_layers: int = 1, num_classes: int = 12) -> None:
        super().__init__()
        self.gru = nn.GRU(in_features, hidden, num_layers, batch_first=True)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        states, _ = self.gru(x)
        return self.classifier(states[:, -1])
