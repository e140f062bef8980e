"""Embeddings aligned with the teacher's, each nearer to its own than to the others of the batch."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.logit.listwise import info_nce, leave_out
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - cos(s, t) of embeddings (N, D), (N,), in at least float32; no gradient flows into the teacher's."""
    return 1 - functional.cosine_similarity(at_least_float32(student), at_least_float32(teacher.detach()), -1)


def sparsemax_contrast(positive: Tensor, candidates: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return 1/2 + 1/2 sum_{k in S} (z_k² - τ²) - z_+, for every query.

    S are the candidates with z_k > τ, τ such that p_k = max(0, z_k - τ) sums to 1. The gradient is p - (1 at the positive):
    unlike InfoNCE's it is exactly 0 at candidates far behind. Martins and Astudillo, 2016, sparsemax loss.

    Args:
        positive: scores z_+ (N,), already divided by the temperature.
        candidates: scores z (N, K), the positive one among them.
        counts: boolean (K,), the candidates that count; None: all.

    Returns:
        (N,), in at least float32.
    """
    scores = leave_out(at_least_float32(candidates), counts)
    best = scores.max(
        -1, keepdim=True
    ).values.detach()  # the loss does not change with a shift of all; small values are exact
    ordered = (scores - best).sort(-1, descending=True).values
    number = torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=scores.dtype)
    inside = 1 + number * ordered > ordered.cumsum(-1)
    size = inside.sum(-1)
    kept = torch.where(inside, ordered, 0.0)
    threshold = (kept.sum(-1) - 1) / size
    return 0.5 + 0.5 * (kept.square().sum(-1) - size * threshold.square()) - (at_least_float32(positive) - best[:, 0])


class CosineInfoNce(OutputLoss):
    """Cosine distance to the teacher's embedding, plus contrast with the teacher's embeddings of other samples."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Cosine alignment with contrast"
    source: ClassVar[str] = "SEMCo, arXiv 2604.12990 (sparse contrast); InfoNCE: arXiv 1807.03748, equation 4"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = (
        "the sum, its constants, and sparsemax (alpha = 2) in place of the paper's alpha-entmax family"
    )
    applies: ClassVar[str] = "embeddings (N, D), the teacher's as wide as the student's"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})
    exempt: ClassVar[dict[str, str]] = {
        "zero": "InfoNCE = log sum_k exp(cos(s, t_k) / T) - cos(s, t_+) / T > 0 at s = t"
    }

    kind: Literal["cosine-infonce"] = "cosine-infonce"
    alignment: Schedule = Field(default=constant(1.0), description="coefficient of the cosine distance")
    contrast: Schedule = Field(default=constant(1.0), description="coefficient of the contrast")
    over: Literal["softmax", "sparsemax"] = Field(
        default="softmax", description="contrast: InfoNCE, or its sparse form without gradient from easy negatives"
    )
    temperature: Temperature = Field(default=constant(0.1), description="T of the contrast")

    def prepare(self, setup: Setup) -> None:
        """Check that the embeddings have one width.

        Raises:
            InputError: they have not.
        """
        student = setup.student.output(self.output)
        for teacher in (answer.output(self.output) for answer in setup.teachers.values()):
            if student.ndim != 2 or teacher.shape != student.shape:
                raise InputError(
                    f"{self.kind}: the student's embedding has the shape {tuple(student.shape)}, the teacher's "
                    f"{tuple(teacher.shape)}; both must be (samples, width): end the student with a layer of that width"
                )

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return alignment and contrast of every sample (N,)."""
        temperature = self.temperature.at(step.progress)
        distance = cosine_distance(student, teacher)
        others = functional.normalize(step.gather(teacher), dim=-1)
        similarity = functional.normalize(student, dim=-1) @ others.T
        counts = step.gather(step.valid) if step.valid is not None and step.valid.ndim == 1 else None
        if self.over == "sparsemax":
            contrast = sparsemax_contrast((1 - distance) / temperature, similarity / temperature, counts)
        else:
            contrast = info_nce(1 - distance, similarity, temperature, counts)
        return self.alignment.at(step.progress) * distance + self.contrast.at(step.progress) * contrast
