"""Similarities to a dictionary of concepts, of which only those that tell the data apart are distilled."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.labels import elements_that_count
from edgekd.losses.logit.kl import Direction, temperature_kl
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Setup, Step


def kept_concepts(covariance: Tensor, spectrum: float = 0.95, concepts: float = 0.99) -> Tensor:
    """Return which concepts carry the data's variance, a boolean (M,), at least two.

    The covariance is V diag(l) V^T with falling l. The first r directions hold the share `spectrum` of sum l. A concept's
    part of them is sum_{j <= r} l_j V_cj^2; the largest parts that together hold the share `concepts` are kept.

    Args:
        covariance: of the softmax of the teacher's similarities, (M, M).
        spectrum: beta_e in (0, 1].
        concepts: beta_c in (0, 1].
    """
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    part = vectors.square() @ torch.where(_leading(values, spectrum), values, 0)
    order = part.argsort(descending=True, stable=True)
    leading = _leading(part[order], concepts)
    leading[:2] = True
    return torch.zeros_like(leading).scatter(0, order, leading)


def _leading(falling: Tensor, share: float) -> Tensor:
    """Return the fewest leading entries that hold the share of the sum."""
    before = falling.cumsum(0) - falling
    return before < share * falling.sum()


class ConceptStatistics(nn.Module):
    """Sums over the first epoch of the teacher's concept probabilities, then the concepts that are kept.

    What is summed is the difference from `origin`, the first batch's mean: similarities of images to concepts differ
    little, and their covariance would drown in the rounding of sums of squares.
    """

    origin: Tensor
    count: Tensor
    total: Tensor
    outer: Tensor
    keep: Tensor
    decided: Tensor

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(concepts))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("total", torch.zeros(concepts))
        self.register_buffer("outer", torch.zeros(concepts, concepts))
        self.register_buffer("keep", torch.ones(concepts, dtype=torch.bool))
        self.register_buffer("decided", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def add(self, p: Tensor, counted: Tensor) -> None:
        """Add probabilities (N, M) of the elements that count (N,)."""
        p = p[counted]
        if not len(p):
            return
        if self.count == 0:
            self.origin.copy_(p.mean(0))
        p = p - self.origin
        self.count += len(p)
        self.total += p.sum(0)
        self.outer += p.T @ p

    def covariance(self) -> Tensor:
        """Return the covariance (M, M) of what was added."""
        mean = self.total / self.count
        return self.outer / self.count - mean[:, None] * mean


class ConceptFilter(OutputLoss):
    """KL both ways between the similarities of student and teacher to the concepts that matter.

    In the first epoch all concepts count, and the covariance of the teacher's is gathered: a matrix of concepts squared.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Spectral concept filter"
    source: ClassVar[str] = "SpectralGCD, arXiv 2602.17395, spectral filtering and forward and reverse distillation"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "the covariance is gathered in the first epoch, which uses all concepts"
    applies: ClassVar[str] = "outputs (N, M): similarities of an image with M concepts, as of CLIP"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})

    kind: Literal["concept-filter"] = "concept-filter"
    spectrum: float = Field(default=0.95, gt=0, le=1, description="beta_e, share of the spectrum that is kept")
    concepts: float = Field(default=0.99, gt=0, le=1, description="beta_c, share of it that the kept concepts carry")
    temperature: Temperature = Field(default=constant(1.0), description="T of the similarities")
    direction: Direction = Field(default="both", description="which divergence")

    def prepare(self, setup: Setup) -> ConceptStatistics:
        """Return the statistics."""
        output = next(iter(setup.teachers.values())).output(self.output)
        return ConceptStatistics(max(2, output.shape[setup.class_axis])).to(output.device)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the divergence of every sample over the kept concepts."""
        assert isinstance(memory, ConceptStatistics)
        temperature = self.temperature.at(step.progress)
        if not memory.decided and torch.is_grad_enabled():
            p = step.gather(torch.softmax(teacher / temperature, -1)).to(memory.total.dtype)
            counted = step.gather(elements_that_count(step, teacher[..., 0]))
            memory.add(p.flatten(0, -2), counted.flatten())
        return temperature_kl(student[..., memory.keep], teacher[..., memory.keep], temperature, self.direction)

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Decide, after the first epoch, which concepts are kept."""
        assert isinstance(memory, ConceptStatistics)
        if not memory.decided and memory.count > 1:
            memory.keep.copy_(kept_concepts(memory.covariance(), self.spectrum, self.concepts))
            memory.decided.fill_(True)
