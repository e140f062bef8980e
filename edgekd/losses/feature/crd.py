"""Contrastive representation distillation: a sample's two features belong together, among many that do not."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.feature.counted import whole_batch
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step, at_least_float32


def noise_contrast(anchor: Tensor, positive: Tensor, negatives: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return -log h(a, p) - Σ_n log(1 - h(a, n)), with h = q / (q + K / M) and q = exp(a·b / t) / Z.

    Tian et al., 2020, section 3, with K negatives of M samples. Z = M exp(1 / (2 d t²)) is M times about the mean
    of exp(a·b / t) over random directions in d dimensions; so log(h / (1 - h)) = a·b / t - 1 / (2 d t²) - log K.

    Args:
        anchor: unit vectors (N, d).
        positive: unit vectors (N, d) of the same samples.
        negatives: unit vectors (K, d).
        other: whether a negative is of another sample than the anchor (N, K).
        temperature: t > 0.

    Returns:
        (N,).
    """
    count = other.sum(1).clamp(min=1).to(anchor.dtype)
    shift = count.log() + 1 / (2 * anchor.shape[1] * temperature**2)
    pulled = functional.logsigmoid((anchor * positive).sum(1) / temperature - shift)
    pushed = functional.logsigmoid(shift[:, None] - anchor @ negatives.T / temperature)
    return -pulled - torch.where(other, pushed, 0.0).sum(1)


class CrdMemory(nn.Module):
    """Both projections to d dimensions, and a running unit vector of every training sample (samples, d)."""

    student_bank: Tensor
    teacher_bank: Tensor

    def __init__(self, student: int, teacher: int, width: int, samples: int) -> None:
        super().__init__()
        self.student = nn.Linear(student, width)
        self.teacher = nn.Linear(teacher, width)
        for name in ("student_bank", "teacher_bank"):
            self.register_buffer(name, functional.normalize(torch.randn(samples, width)))

    @torch.no_grad()
    def update(self, ids: Tensor, student: Tensor, teacher: Tensor, momentum: float) -> None:
        """Move the rows of these samples towards their new unit vectors."""
        for bank, new in ((self.student_bank, student), (self.teacher_bank, teacher)):
            bank[ids] = functional.normalize(momentum * bank[ids] + (1 - momentum) * new).to(bank.dtype)


class Crd(FeatureLoss):
    """Noise-contrastive estimation with a memory of the training set, the student against the teacher and back."""

    title: ClassVar[str] = "Contrastive representation distillation"
    source: ClassVar[str] = "Tian et al., arXiv 1910.10699, section 3"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = (
        "negatives are shared by the batch, positives are the batch's own, and Z is that of random directions"
    )
    applies: ClassVar[str] = "embeddings (N, D) of any width; other features are flattened"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "batch"})
    exempt: ClassVar[dict[str, str]] = {"zero": "-log h - Σ log(1 - h) > 0, as 0 < h < 1 for finite scores"}

    kind: Literal["crd"] = "crd"
    width: int = Field(default=128, ge=1, description="dimensions in which features are compared")
    negatives: int = Field(
        default=16384, ge=1, description="rows of the memory a batch is contrasted with, at most all"
    )
    temperature: float = Field(default=0.07, gt=0, description="t of the scores")
    momentum: float = Field(default=0.5, ge=0, lt=1, description="share of the old row in the memory's new one")

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projections and the memory, 8 bytes x width for every training sample."""
        mine, yours = math.prod(student.shape[1:]), math.prod(teacher.shape[1:])
        made = CrdMemory(mine, yours, self.width, setup.samples)
        return made.to(student.device, at_least_float32(student).dtype)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the contrast of every sample; in training its rows of the memory move."""
        assert isinstance(memory, CrdMemory) and step.sample_ids is not None
        ids = step.sample_ids.to(student.device)
        mine = functional.normalize(memory.student(student.flatten(1)))
        yours = functional.normalize(memory.teacher(teacher.flatten(1)))
        chosen = self._choose(len(memory.student_bank), step).to(student.device)
        other = chosen != ids[:, None]
        value = noise_contrast(mine, yours, memory.teacher_bank[chosen], other, self.temperature)
        value = value + noise_contrast(yours, mine, memory.student_bank[chosen], other, self.temperature)
        if memory.training:
            seen, new, taught = (whole_batch(side, step) for side in (ids, mine.detach(), yours.detach()))
            memory.update(seen, new, taught, self.momentum)
        return value

    def _choose(self, samples: int, step: Step) -> Tensor:
        """Return the numbers of the negatives: drawn with replacement, or all where they are few."""
        if self.negatives >= samples:
            return torch.arange(samples)
        device = "cpu" if step.generator is None else step.generator.device
        return torch.randint(samples, (self.negatives,), generator=step.generator, device=device)
