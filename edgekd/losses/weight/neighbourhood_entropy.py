"""Trust the teacher where a sample's neighbours are of one class."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.labels import class_labels, elements_that_count
from edgekd.losses.step import Step
from edgekd.losses.weight.shared import answer_last, array_of, class_probabilities
from edgekd.losses.weighting import SignalWeight


def hyperedge_entropy(incidence: Tensor, classes: Tensor) -> Tensor:
    """Return H(e) = -Σ_c π_c log π_c / log C with π_c the share of class c among the members of hyperedge e; HADES.

    Args:
        incidence: 1 where sample n belongs to hyperedge e, (N, E).
        classes: one-hot classes (N, C).

    Returns:
        (E,), from 0 for members of one class (or none) to 1.
    """
    members = incidence.T @ classes
    shares = members / members.sum(-1, keepdim=True).clamp(min=torch.finfo(members.dtype).tiny)
    return torch.special.entr(shares).sum(-1) / math.log(classes.shape[-1])


def heterophily(incidence: Tensor, entropy: Tensor) -> Tensor:
    """Return mean_{e ∋ v} H(e), the mean entropy of the hyperedges (N, E) of every sample: (N,), 0 for one in none."""
    return incidence @ entropy / incidence.sum(-1).clamp(min=1)


class NeighbourhoodEntropy(SignalWeight):
    """exp(-κ het) with het the mean label entropy of the hyperedges that hold the sample.

    A hyperedge is what the batch, over all processes, shows of it.
    """

    title: ClassVar[str] = "Neighbourhood entropy"
    source: ClassVar[str] = "HADES, arXiv 2606.08978, hyperedge label entropy"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "the exponential form, and hyperedges as far as the batch shows them"
    applies: ClassVar[str] = "graph nodes, or samples with groups of neighbours; best in whole-graph batches"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})

    kind: Literal["neighbourhood-entropy"] = "neighbourhood-entropy"
    hyperedges: str = Field(
        default="hyperedges", description="array of the data set (N, E): 1 where the sample is a member"
    )
    output: str | None = Field(default=None, description="the teacher's output looked at; not set: the first")
    kappa: float = Field(default=2.0, ge=0, description="κ, how fast trust falls with the entropy")

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return the trust in every sample (N,); classes are the labels, else what the teacher predicts."""
        probabilities = class_probabilities(answer_last(step, step.the_teacher, self.output))
        probabilities = probabilities.flatten(1, -2).mean(1) if probabilities.ndim > 2 else probabilities
        predicted = probabilities.argmax(-1)
        labels = class_labels(step, predicted.shape)
        classes = predicted if labels is None else torch.where(labels >= 0, labels, predicted)
        incidence = array_of(step, self.hyperedges, self.kind, "the hyperedges of every sample")
        incidence = incidence.detach().to(probabilities.dtype)
        one_hot = functional.one_hot(classes, probabilities.shape[-1]).to(probabilities.dtype)
        one_hot = one_hot * elements_that_count(step, predicted)[:, None]  # what does not count is no neighbour
        entropy = hyperedge_entropy(step.gather(incidence), step.gather(one_hot))
        return torch.exp(-self.kappa * heterophily(incidence, entropy))
