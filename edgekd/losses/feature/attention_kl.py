"""Attention distillation: the queries that matter attend to what the teacher attends to."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.logit.kl import temperature_kl
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Setup, Step

Given = Literal["probabilities", "scores"]
Block = tuple[int | None, int | None]
NEVER = -1e9  # the logarithm of no probability
FLOOR = 1e-12  # probabilities below have no gradient, which would be their inverse


def log_attention(
    attention: Tensor, rows: slice, columns: slice, given: Given, average: bool = False, valid: Tensor | None = None
) -> Tensor:
    """Return the logarithm of a block of attention, (N, H or 1, rows, columns), each row a distribution over the block.

    Args:
        attention: (N, H, Q, K), queries by keys.
        rows: queries in the block.
        columns: keys in the block.
        given: "probabilities", or "scores" in front of their softmax.
        average: take the mean over the heads.
        valid: keys that count (N, K); the others get no probability.
    """
    block = attention[:, :, rows]
    log = block.log_softmax(-1) if given == "scores" else block.clamp(min=FLOOR).log()
    if average:
        log = log.logsumexp(1, keepdim=True) - math.log(log.shape[1])
    if valid is not None:
        log = log.masked_fill(~valid[:, None, None], NEVER)
    return log[..., columns].log_softmax(-1)


class AttentionKl(FeatureLoss):
    """KL of the teacher's attention to the student's, in a block of queries and keys."""

    title: ClassVar[str] = "Attention KL"
    source: ClassVar[str] = "Align-KD, arXiv 2412.01282: text to vision in the first layer"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = "KL over the block's keys, rows scaled to sum to 1; unequal numbers of heads are averaged"
    applies: ClassVar[str] = "attention matrices (N, heads, queries, keys) of any number of heads"
    shape: ClassVar[Literal["attention"]] = "attention"

    kind: Literal["attention-kl"] = "attention-kl"
    given: Given = Field(default="probabilities", description="what the taps give; scores: what goes into the softmax")
    rows: Block = Field(default=(None, None), description="first query of the block, and the one behind its last")
    columns: Block = Field(default=(None, None), description="first key of the block, and the one behind its last")

    @classmethod
    def example(cls) -> "AttentionKl":
        """Return settings for scores, which may be any numbers."""
        return cls(given="scores", rows=(3, None), columns=(0, 3))

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Check that both are attention over the same queries and keys.

        Raises:
            InputError: they are not, or the block is empty.
        """
        mine, yours = tuple(student.shape[1:]), tuple(teacher.shape[1:])
        if len(mine) != 3 or len(yours) != 3 or mine[1:] != yours[1:]:
            raise InputError(
                f"{self.kind}: {name}: the student's feature has the shape {mine}, the teacher's {yours}; choose taps "
                f"that give attention (heads, queries, keys) over the same tokens"
            )
        if student[0, 0, slice(*self.rows), slice(*self.columns)].numel() == 0:
            raise InputError(
                f"{self.kind}: {name}: no rows {self.rows} or columns {self.columns} in {mine}; widen them"
            )
        return None

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the mean divergence of every sample's queries that count."""
        rows, columns = slice(*self.rows), slice(*self.columns)
        average = student.shape[1] != teacher.shape[1]
        queries, keys = (mask_of(step.valid, size) for size in student.shape[2:])
        mine, yours = (log_attention(side, rows, columns, self.given, average, keys) for side in (student, teacher))
        value = temperature_kl(mine, yours, 1.0).mean(1)
        counts = torch.ones_like(value) if queries is None else queries[:, rows].to(value.dtype)
        return (value * counts).sum(1) / counts.sum(1).clamp(min=1)


def mask_of(valid: Tensor | None, length: int) -> Tensor | None:
    """Return the mask of tokens (N, length), None where `valid` speaks of something else."""
    return valid if valid is not None and valid.ndim == 2 and valid.shape[1] == length else None
