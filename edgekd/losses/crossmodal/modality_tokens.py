"""Modules to build into a student that must do without some of its modalities.

Ordinary layers: they belong to the student, are trained with it and exported with it. The mask is one more input of the
model, so one exported file serves every combination of modalities:

    features = torch.stack([image_net(image), sound_net(sound)], 1)  # (N, 2, D)
    logits = fusion(tokens(features, mask))  # mask (N, 2): 1 where the modality is there
"""

import math

import torch
from torch import Tensor, nn


class ModalityTokens(nn.Module):
    """f_m where the modality is there, a learned token t_m where it is missing: mask f + (1 - mask) t.

    In training each modality is dropped with probability `drop`, never all that a sample has: one of those, drawn evenly,
    stays.

    Args:
        modalities: M.
        width: D of every modality's feature.
        drop: probability in [0, 1) that a modality is dropped in training.

    Raises:
        ValueError: `drop` is not in [0, 1).
    """

    def __init__(self, modalities: int, width: int, drop: float = 0.5) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise ValueError(f"drop is a probability in [0, 1), not {drop}")
        self.drop = drop
        self.tokens = nn.Parameter(torch.randn(modalities, width) / math.sqrt(width))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return (N, M, D) from features (N, M, D) and a mask (N, M), 1 where the modality is there.

        What a missing modality's feature holds does not matter, as long as it is a number.
        """
        mask = mask.to(features.dtype)
        if self.training and self.drop > 0:
            mask = self._dropped(mask)
        mask = mask.unsqueeze(-1)
        return mask * features + (1 - mask) * self.tokens

    def _dropped(self, mask: Tensor) -> Tensor:
        kept = mask * (torch.rand_like(mask) >= self.drop)
        order = torch.rand_like(mask) * mask  # the largest is one that is there
        one = torch.zeros_like(mask).scatter(1, order.argmax(1, keepdim=True), 1.0) * mask
        return torch.where(kept.sum(1, keepdim=True) > 0, kept, one)


class ReliabilityFusion(nn.Module):
    """Modalities weighted by how reliable they look, each informed by the others, then classified.

    r = softmax of a score R_m(f_m) over the modalities; features are scaled by M r_m, attend to those of the other
    modalities (with two of them: cross-attention in both directions), and are concatenated for a linear classifier.

    Args:
        modalities: M >= 2.
        width: D of every modality's feature.
        classes: number of logits.

    Raises:
        ValueError: there is one modality only.
    """

    def __init__(self, modalities: int, width: int, classes: int) -> None:
        super().__init__()
        if modalities < 2:
            raise ValueError(f"a fusion takes two modalities or more, not {modalities}")
        self.scores = nn.ModuleList(nn.Linear(width, 1) for _ in range(modalities))
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.classifier = nn.Linear(modalities * width, classes)
        self.register_buffer("itself", torch.eye(modalities, dtype=torch.bool), persistent=False)

    def reliability(self, features: Tensor) -> Tensor:
        """Return r (N, M), with the sum 1, of features (N, M, D)."""
        return torch.softmax(torch.cat([score(features[:, m]) for m, score in enumerate(self.scores)], 1), 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, classes) of features (N, M, D)."""
        scaled = features * (len(self.scores) * self.reliability(features)).unsqueeze(-1)
        attention = self.query(scaled) @ self.key(scaled).transpose(1, 2) / math.sqrt(features.shape[2])
        attention = torch.softmax(attention.masked_fill(self.itself, -math.inf), -1)
        return self.classifier((scaled + attention @ self.value(scaled)).flatten(1))
