"""Masks from a teacher where it is sure, from the labels where it is not."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.step import Setup, Step, at_least_float32

SMOOTH = 1e-6


def soft_dice(a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    """Return 1 - (2 Σ a b + 1e-6) / (Σ a + Σ b + 1e-6) over the positions, for every sample.

    Args:
        a: probabilities (N, P).
        b: probabilities (N, P).
        counts: 1 where a position counts, else 0, (N, P).

    Returns:
        (N,). Of soft masks it is above 0 even where a = b.
    """
    return 1 - (2 * (a * b * counts).sum(-1) + SMOOTH) / (((a + b) * counts).sum(-1) + SMOOTH)


def mean_max_probability(teacher: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of max(p, 1 - p), p = sigmoid(t), over the valid positions (N, P): (N,), 1 where it is always sure."""
    sure = torch.sigmoid(at_least_float32(teacher.detach()).abs())
    return (sure * valid).sum(-1) / valid.sum(-1).clamp(min=1)


def confidence_mix(
    student: Tensor, teacher: Tensor, targets: Tensor, confidence: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Return c [MSE(σ(s), σ(t)) + Dice(σ(s), σ(t))] + (1 - c) [BCE(s, y) + Dice(σ(s), y)], for every sample.

    PicoSAM2 and PicoSAM3; MSE and BCE are means over the sample's positions that count.

    Args:
        student: logits (N, P) of P positions.
        teacher: logits of the same shape; no gradient flows into them.
        targets: masks (N, P) of 0 and 1; -1 is ignored.
        confidence: c (N,) in [0, 1], how far the teacher is trusted.
        valid: boolean (N, P), the positions that count; None: all.

    Returns:
        (N,), in at least float32.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    counts = torch.ones_like(student) if valid is None else valid.to(student.dtype)
    labelled = counts * (targets >= 0)
    truth = targets.clamp(min=0).to(student.dtype)
    s, t = torch.sigmoid(student), torch.sigmoid(teacher)
    bce = functional.binary_cross_entropy_with_logits(student, truth, reduction="none")
    to_teacher = _mean((s - t).square(), counts) + soft_dice(s, t, counts)
    to_labels = _mean(bce, labelled) + soft_dice(s, truth, labelled)
    trust = confidence.detach().to(student.dtype).clamp(0, 1)
    return trust * to_teacher + (1 - trust) * to_labels


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    return (values * counts).sum(-1) / counts.sum(-1).clamp(min=1)


class ConfidenceMix(OutputLoss):
    """Teacher's mask and true mask, mixed sample by sample by the teacher's confidence."""

    capability: ClassVar[Capability] = "C03"
    title: ClassVar[str] = "Confidence mix of masks"
    source: ClassVar[str] = "PicoSAM2, arXiv 2506.18807, and PicoSAM3, arXiv 2603.11917"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = (
        "mixed per sample, and c is the teacher's mean max-probability where the data set names none"
    )
    applies: ClassVar[str] = "binary masks: logits (N, 1, H, W), labels (N, H, W)"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "labels"})
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "mask"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "Dice(a, a) = 1 - Σ a² / Σ a > 0 for soft masks, and (1 - c) BCE(s, y) > 0 for finite logits"
    }

    kind: Literal["confidence-mix"] = "confidence-mix"
    confidence: str = Field(
        default="confidence",
        description="array of the data set with c (N,), e.g. the teacher's predicted IoU; not there: the teacher's own",
    )

    def prepare(self, setup: Setup) -> None:
        """Check that both answer with one logit a position.

        Raises:
            InputError: they do not.
        """
        student = setup.student.output(self.output)
        for teacher in (answer.output(self.output) for answer in setup.teachers.values()):
            if student.ndim != 4 or student.shape[1] != 1 or teacher.shape != student.shape:
                raise InputError(
                    f"{self.kind}: the student's mask has the shape {tuple(student.shape)}, the teacher's "
                    f"{tuple(teacher.shape)}; both must be (samples, 1, height, width); for several classes use kl"
                )

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the mix of every sample (N,)."""
        assert step.targets is not None
        s, t = student.flatten(1), teacher.flatten(1)
        valid = step.valid
        if valid is None or valid.ndim == 1:  # whole samples: the mean over the batch leaves them out
            valid = torch.ones_like(s, dtype=torch.bool)
        valid = valid.flatten(1)
        given = step.extras.get(self.confidence)
        confidence = mean_max_probability(t, valid) if given is None else given.reshape(-1)
        return confidence_mix(s, t, step.targets.flatten(1), confidence, valid)
