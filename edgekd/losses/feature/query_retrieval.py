"""Query-based retrieval: each student token asks the teacher's tokens for its target."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.positions import as_tokens, counted_positions
from edgekd.losses.loss import Evidence
from edgekd.losses.schedule import Schedule, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def retrieve(query: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return A V with A = softmax(Q Kᵀ / sqrt(D)) and K = V the teacher's tokens at length 1.

    Generalizable KD, arXiv 2603.02554, query-based soft distillation.

    Args:
        query: Q (N, P, D).
        teacher: tokens (N, M, D); no gradient flows into them.
        counted: the teacher's tokens that may be retrieved, (N, M); None: all.

    Returns:
        (N, P, D).
    """
    tokens = functional.normalize(teacher.detach(), dim=-1)
    scores = query @ tokens.transpose(1, 2) / math.sqrt(tokens.shape[-1])
    if counted is not None:
        scores = scores.masked_fill(~counted[:, None], torch.finfo(scores.dtype).min)
    return scores.softmax(-1) @ tokens


class QueryRetrieval(FeatureLoss):
    """1 - cos(P_v f_S, retrieved) + eta MSE(P_v f_S, the teacher's token at the same place)."""

    title: ClassVar[str] = "Query-based soft distillation"
    source: ClassVar[str] = "Generalizable KD, arXiv 2603.02554, query-based soft distillation"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = "cosine to what is retrieved, and the term at the same place with its weight"
    applies: ClassVar[str] = (
        "tokens (N, L, D), maps (N, C, H, W); a first phase without labels, then train the head alone"
    )
    shape: ClassVar[Literal["tokens"]] = "tokens"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "P_v is a new linear map and A V a mixture of tokens: cos(P_v f, A V) < 1 at f_S = f_T"
    }

    kind: Literal["query-retrieval"] = "query-retrieval"
    same_place: Schedule = Field(default=constant(0.1), description="eta: coefficient of the token at the same place")

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return P_q and P_v.

        Raises:
            InputError: the features are not both tokens or both maps, or of two lengths where places are compared.
        """
        shapes = (
            f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
            f"{tuple(teacher.shape[1:])}"
        )
        if student.ndim != teacher.ndim or student.ndim not in (3, 4):
            raise InputError(f"{shapes}; choose taps that both give tokens (L, D), or both maps (C, H, W)")
        if student.ndim == 3 and student.shape[1] != teacher.shape[1] and not self.same_place.always_zero:
            raise InputError(f"{shapes}; sequences of two lengths have no common places: set same_place = 0")
        width, wanted = as_tokens(student).shape[-1], as_tokens(teacher).shape[-1]
        made = nn.ModuleDict({"query": nn.Linear(width, wanted), "value": nn.Linear(width, wanted)})
        return made.to(student.device, at_least_float32(student).dtype)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every position: (N, L), or (N, H, W)."""
        assert isinstance(memory, nn.ModuleDict)
        tokens = as_tokens(student)
        value = memory["value"](tokens)
        found = retrieve(memory["query"](tokens), as_tokens(teacher), counted_positions(step, teacher))
        loss = 1 - functional.cosine_similarity(value, found, dim=-1)
        eta = self.same_place.at(step.progress)
        if eta:
            loss = loss + eta * (value - as_tokens(_at_size_of(student, teacher))).square().mean(-1)
        return loss.reshape(student.shape[0], *student.shape[2:]) if student.ndim == 4 else loss


def _at_size_of(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape[2:] == teacher.shape[2:] or teacher.ndim == 3:
        return teacher
    return functional.interpolate(teacher, (student.shape[2], student.shape[3]), mode="bilinear")
