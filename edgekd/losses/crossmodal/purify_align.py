"""A purified teacher, to which a denoiser refines the student's feature."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.crossmodal.pooling import pooled
from edgekd.losses.feature.counted import counted
from edgekd.losses.feature.feature_loss import PENULTIMATE
from edgekd.losses.labels import sample_labels
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.step import Setup, Step, at_least_float32, merged


def noised(clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return sqrt(a) z + sqrt(1 - a) e, (N, D): the diffusion of z (N, D) to the share a (N,) of its variance."""
    share = kept[:, None]
    return share.sqrt() * clean + (1 - share).sqrt() * noise


class Denoiser(nn.Module):
    """An MLP that says what a noised vector (N, D) was, given a condition (N, D) and the share of it that is left (N,)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        last = nn.Linear(hidden, width)
        nn.init.zeros_(last.weight)  # starts as the identity
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(2 * width + 1, hidden), nn.SiLU(), last)

    def forward(self, noisy: Tensor, condition: Tensor, kept: Tensor) -> Tensor:
        """Return the clean vector (N, D)."""
        return noisy + self.layers(torch.cat([noisy, condition, kept[:, None]], 1))


class Purifier(nn.Module):
    """Weights of the teacher's M features, a classifier that learns them, the denoiser and the student's projector."""

    def __init__(self, student: int, teacher: int, features: int, classes: int | None, hidden: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(features))
        self.classifier = None if classes is None else nn.Linear(teacher, classes)
        self.denoiser = Denoiser(teacher, hidden)
        self.projector = nn.Identity() if student == teacher else nn.Linear(student, teacher)

    def purified(self, features: Tensor) -> Tensor:
        """Return z = norm(sum_m softmax(scores)_m f_m), (N, D), of features (M, N, D)."""
        mixed = torch.einsum("m,mnd->nd", torch.softmax(self.scores, 0), features)
        return functional.layer_norm(mixed, mixed.shape[1:])

    def projected(self, student: Tensor) -> Tensor:
        """Return the student's feature in the teacher's width, scaled in the same way."""
        mine = self.projector(student)
        return functional.layer_norm(mine, mine.shape[1:])


class PurifyAlign(Loss):
    """|refine(P f_S) - z|^2 with z the weighted mean of the teacher's features and refine a few steps of a denoiser.

    Purify: the weights of the teacher's modalities are learned with a classifier on z, so that noisy ones fade. Align: a
    denoiser learns to restore noised z given the student's feature; the student's feature is refined by it as if it were
    a noised z. The classifier and the denoiser are trained apart (`own_loss`) and only read by this loss.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Purify, then align"
    source: ClassVar[str] = "PTA, arXiv 2604.05584, modality weights and diffusion alignment"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = (
        "weights by one classifier's cross-entropy in place of meta-learning; a deterministic MLP refiner"
    )
    applies: ClassVar[str] = "a teacher of several modalities, one tap each, and a student of one"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"

    kind: Literal["purify-align"] = "purify-align"
    tap: str = Field(default=PENULTIMATE, description="the student's feature")
    modalities: tuple[str, ...] = Field(
        default=(PENULTIMATE,), min_length=1, description="taps of the teacher, one a modality, of equal width"
    )
    hidden: int = Field(default=128, ge=1, description="hidden width of the denoiser")
    steps: int = Field(default=2, ge=1, description="steps of the refinement")

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's tap."""
        return (self.tap,)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the taps of the modalities."""
        return self.modalities

    def prepare(self, setup: Setup) -> Purifier:
        """Return the weights, the denoiser and the projector.

        Raises:
            InputError: the teacher's features differ in width.
        """
        student = pooled(at_least_float32(setup.student.features[self.tap]))
        teacher = merged(setup.teachers)
        widths = {tap: pooled(teacher.features[tap]).shape[1] for tap in self.modalities}
        if len(set(widths.values())) > 1:
            raise InputError(
                f"{self.kind}: the teacher's features have the widths {widths}; choose taps of equal width"
            )
        width = widths[self.modalities[0]]
        made = Purifier(student.shape[1], width, len(self.modalities), setup.classes, self.hidden)
        return made.to(student.device, student.dtype)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the mean square of every sample."""
        assert isinstance(memory, Purifier)
        wanted = memory.purified(self._teacher(step)).detach()
        condition = memory.projected(pooled(at_least_float32(step.student.features[self.tap]), step.valid))
        fixed = {name: value.detach() for name, value in memory.denoiser.named_parameters()}
        refined = condition
        for number in range(self.steps):
            kept = torch.full_like(condition[:, 0], (number + 1) / (self.steps + 1))
            refined = functional_call(memory.denoiser, fixed, (refined, condition, kept))
        return (refined - wanted).square().mean(1)

    def own_loss(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return what trains the denoiser, and where there are labels the weights of the modalities."""
        assert isinstance(memory, Purifier)
        clean = memory.purified(self._teacher(step))
        condition = memory.projected(
            pooled(at_least_float32(step.student.features[self.tap].detach()), step.valid)
        ).detach()
        noise = torch.randn(clean.shape, generator=step.generator).to(clean)
        kept = torch.rand(len(clean), generator=step.generator).to(clean)
        target = clean.detach()
        errors = counted(
            (memory.denoiser(noised(target, noise, kept), condition, kept) - target).square().mean(1), step
        )
        loss = errors.mean() if len(errors) else errors.sum()
        targets = step.targets
        if memory.classifier is None or targets is None or targets.is_floating_point() or targets.shape != kept.shape:
            return loss
        labels = sample_labels(step, self.kind)
        values = functional.cross_entropy(memory.classifier(clean), labels, ignore_index=-1, reduction="sum")
        return loss + values / (labels >= 0).sum().clamp(min=1)

    def _teacher(self, step: Step) -> Tensor:
        features = step.the_teacher.features
        return torch.stack(
            [pooled(at_least_float32(features[tap].detach()), step.teacher_valid) for tap in self.modalities]
        )
