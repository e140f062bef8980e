"""With a modality missing, the student answers as the model that has them all."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.crossmodal.pooling import pooled, sample_mean
from edgekd.losses.feature.feature_loss import PENULTIMATE
from edgekd.losses.labels import sample_labels
from edgekd.losses.logit.kl import temperature_kl
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def centre_loss(features: Tensor, labels: Tensor, centres: Tensor, known: Tensor) -> Tensor:
    """Return |f - c_y|^2 / 2, (N,); 0 without a label or a known centre (Wen et al., 2016, equation 2).

    Args:
        features: (N, D).
        labels: (N,), negative where unknown.
        centres: (C, D).
        known: which centres stand for something, (C,).
    """
    label = labels.clamp(min=0)
    distance = (features - centres[label]).square().sum(1) / 2
    return torch.where((labels >= 0) & known[label], distance, 0)


class Centres(nn.Module):
    """A moving mean of the features of every class; a class's first batch sets it."""

    centres: Tensor
    known: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(classes, width))
        self.register_buffer("known", torch.zeros(classes, dtype=torch.bool))

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor, momentum: float) -> None:
        """Move the centres of the classes in a batch towards their means: c = m c + (1 - m) mean."""
        member = functional.one_hot(labels.clamp(min=0), len(self.known)).to(features.dtype) * (labels >= 0)[:, None]
        there = member.sum(0) > 0
        means = member.T @ features / member.sum(0).clamp(min=1)[:, None]
        moved = torch.where(self.known[:, None], momentum * self.centres + (1 - momentum) * means, means)
        self.centres.copy_(torch.where(there[:, None], moved, self.centres))
        self.known |= there


class MissingModality(Loss):
    """T^2 KL(p(full) || p(missing)) + lambda_c |f - c_y|^2 / 2.

    The teacher is the model that sees all modalities, the student one that is built with `ModalityTokens` and drops some.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Missing modality"
    source: ClassVar[str] = (
        "MRAF, arXiv 2606.12495; centre loss: Wen et al., ECCV 2016, doi 10.1007/978-3-319-46478-7_31"
    )
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = (
        "centres are moving means; the cross-entropies of single modalities are left to phases of their own"
    )
    applies: ClassVar[str] = "classifiers with several inputs, some of which may fail"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "features", "labels", "batch"})
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"
    exempt: ClassVar[dict[str, str]] = {"zero": "|f - c_y|^2 is 0 only where the feature is its class's centre"}

    kind: Literal["missing-modality"] = "missing-modality"
    output: str | None = Field(default=None, description="the output compared; not set: the first")
    tap: str = Field(default=PENULTIMATE, description="the student's feature that has centres")
    temperature: Temperature = Field(default=constant(4.0), description="T of the answers")
    centre_weight: Schedule = Field(default=constant(0.005), description="lambda_c")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="m of the centres")

    def student_taps(self) -> tuple[str, ...]:
        """Return the feature that has centres."""
        return (self.tap,)

    def prepare(self, setup: Setup) -> Centres:
        """Return the centres.

        Raises:
            InputError: there are no classes.
        """
        classes = setup.classes
        if classes is None:
            raise InputError(f"{self.kind}: a centre is a class's, and the data have no classes; use kl")
        feature = pooled(at_least_float32(setup.student.features[self.tap]))
        return Centres(classes, feature.shape[1]).to(feature.device, feature.dtype)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the loss of every sample, then move the centres."""
        assert isinstance(memory, Centres)
        student = step.class_last(step.student.output(self.output))
        full = step.class_last(step.the_teacher.output(self.output))
        answers = temperature_kl(student, full, self.temperature.at(step.progress))
        feature = pooled(at_least_float32(step.student.features[self.tap]), step.valid)
        labels = sample_labels(step, self.kind)
        centre = centre_loss(feature, labels, memory.centres.clone(), memory.known.clone())
        if torch.is_grad_enabled():
            memory.update(step.gather(feature.detach()), step.gather(labels), self.momentum)
        return sample_mean(answers, step.valid) + self.centre_weight.at(step.progress) * centre
