"""A gate learns which teachers a sample needs; the others are not run."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.committee.mixture import (
    WeightedCommittee,
    answered,
    cross_entropy,
    labels_of_answers,
    shares,
    spread,
    teacher_logits,
)
from edgekd.losses.crossmodal.pooling import pooled
from edgekd.losses.feature.feature_loss import PENULTIMATE
from edgekd.losses.step import Answer, Setup, Step, as_classes, at_least_float32


def load_balance(importance: Tensor) -> Tensor:
    """Return KL(mean importance || uniform), a scalar, of importances (N, K): 0 where all teachers carry the same load."""
    mean = importance.mean(0)
    return (mean * (len(mean) * mean).clamp(min=torch.finfo(mean.dtype).tiny).log()).sum()


def log_importance(scores: Tensor, present: Tensor) -> Tensor:
    """Return log softmax of the scores (N, K) over the teachers that are present (K, N), as (K, N); -inf for the others."""
    return torch.log_softmax(scores.T.masked_fill(~present, -math.inf), 0)


def responsibilities(log_pi: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return pi_k p_k(y) / sum_j pi_j p_j(y), (K, N, ...): the importances after the label was seen (Jordan and Jacobs, 1994).

    Args:
        log_pi: logarithm of the importances (K, N).
        logits: of the teachers, (K, N, ..., C).
        labels: y (N, ...), negative where there is none; pi alone counts there.
    """
    fit = -cross_entropy(logits, labels)
    return torch.softmax(spread(log_pi, fit) + fit, 0)


def corrected(importance: Tensor, share: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Return importances (N, K) that labels have corrected: a sample's mean share over its labelled positions.

    Teachers that were not run keep what the gate gives them, so that they are asked again if it comes to trust them; the
    others share the rest.

    Args:
        importance: pi of the gate (N, K).
        share: responsibilities (K, N, ...).
        labels: (N, ...), negative where there is none.
        present: which teachers were run (K, N).
    """
    known = (labels >= 0).to(share.dtype).reshape(len(labels), -1)
    mean = (share.reshape(*share.shape[:2], -1) * known).sum(2) / known.sum(1).clamp(min=1)
    absent = importance * ~present.T
    return torch.where(known.any(1)[:, None], absent + mean.T * (1 - absent.sum(1, keepdim=True)), importance)


class Gate(nn.Module):
    """Scores of K teachers from the student's feature (N, D), and what they came to for every sample.

    `now` (samples, K) is gathered through an epoch; `before`, the previous epoch's, says who is run; `seen` and `known`
    say of which samples they hold something.
    """

    now: Tensor
    before: Tensor
    seen: Tensor
    known: Tensor

    def __init__(self, teachers: tuple[str, ...], width: int, samples: int) -> None:
        super().__init__()
        self.teachers = teachers
        self.scores = nn.Linear(width, len(teachers))
        self.register_buffer("now", torch.zeros(samples, len(teachers)))
        self.register_buffer("before", torch.zeros(samples, len(teachers)))
        self.register_buffer("seen", torch.zeros(samples, dtype=torch.bool))
        self.register_buffer("known", torch.zeros(samples, dtype=torch.bool))

    def forward(self, feature: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return scores (N, K); the student's feature is read, not shaped."""
        return self.scores(pooled(at_least_float32(feature), valid).detach())

    @torch.no_grad()
    def note(self, sample_ids: Tensor, importance: Tensor) -> None:
        """Keep the importances (N, K) of these samples."""
        self.now[sample_ids] = importance.to(self.now.dtype)
        self.seen[sample_ids] = True

    @torch.no_grad()
    def turn(self, use: bool) -> None:
        """End an epoch: what was gathered says who is run in the next one, if it is to be used."""
        self.before.copy_(self.now)
        self.known.copy_(self.seen if use else torch.zeros_like(self.seen))
        self.seen.zero_()


class LearnedImportance(WeightedCommittee):
    """The teachers' mixture by a gate on the student's feature, pi = softmax(g(h_S)); labels correct it.

    Where there is a label teachers count by pi_k p_k(y), so that one that is wrong is not followed while the gate still
    learns. The gate learns the mixture's own likelihood, -log sum_k pi_k p_k(y), where there are labels, else to prefer
    teachers that the student can follow, sum_k pi_k KL(p_k || p_S); a regulariser spreads the load. A teacher whose
    importance (corrected, where there is a label) was below `drop_below` in the previous epoch is not run on that sample;
    the most important one always is.
    """

    title: ClassVar[str] = "Learned importance of teachers"
    source: ClassVar[str] = "DiverseDistill, arXiv 2402.14035, teacher importance and skipping"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = (
        "the gate is a linear layer that learns the mixture's likelihood, apart from the student; labels correct its shares"
    )
    applies: ClassVar[str] = "teachers that are experts for different inputs, or too dear to run on all"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "paired"})

    kind: Literal["learned-importance"] = "learned-importance"
    tap: str = Field(default=PENULTIMATE, description="the student's feature that the gate reads")
    drop_below: float = Field(
        default=0.1, ge=0, lt=1, description="importance below which a teacher is not run; 0: always"
    )
    warm_up: int = Field(default=1, ge=1, description="epochs in which every teacher is run")
    balance: float = Field(default=0.01, ge=0, description="coefficient of the load regulariser")

    def student_taps(self) -> tuple[str, ...]:
        """Return the feature that the gate reads."""
        return (self.tap,)

    def prepare(self, setup: Setup) -> Gate:
        """Return the gate."""
        super().prepare(setup)
        feature = pooled(at_least_float32(setup.student.features[self.tap]))
        return Gate(tuple(setup.teachers), feature.shape[1], setup.samples).to(feature.device, feature.dtype)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Answer:
        """Return the mixture, and keep the importances for the next epoch."""
        assert isinstance(memory, Gate)
        scores = memory(step.student.features[self.tap], step.valid).detach()
        logits = teacher_logits(step)
        present = answered(logits)
        log_pi = log_importance(scores, present)
        labels = labels_of_answers(step, logits)
        importance, share = torch.softmax(scores, 1), log_pi.exp()
        if labels is not None:
            share = responsibilities(log_pi, logits, labels)
            importance = corrected(importance, share, labels, present)
        if step.sample_ids is not None:
            memory.note(step.gather(step.sample_ids), step.gather(importance))
        return self.answer(step, logits, shares(share, present))

    def loss(self, step: Step, answer: Answer, memory: nn.Module | None) -> Tensor:
        """Return what trains the gate."""
        assert isinstance(memory, Gate)
        scores = memory(step.student.features[self.tap], step.valid)
        logits = teacher_logits(step)
        present = answered(logits)
        labels = labels_of_answers(step, logits)
        if labels is None:
            log_pi = log_importance(scores, present)
            mine = torch.log_softmax(as_classes(step.class_last(step.student.output()).detach()), -1)
            yours = torch.log_softmax(as_classes(logits), -1)
            distance = (yours.exp() * (yours - mine)).sum(-1)
            valid = step.valid
            counted = valid if valid is not None and valid.shape == distance.shape[1:] else torch.ones_like(distance[0])
            loss = ((spread(log_pi.exp(), distance) * distance).sum(0) * counted).sum() / counted.sum().clamp(min=1)
        else:
            # a teacher that was not run has shown before that it does not know this sample
            fit = -cross_entropy(logits, labels)
            fit = fit.masked_fill(~spread(present, fit), -math.inf)
            log_pi, known = torch.log_softmax(scores, 1).T, labels >= 0
            loss = -(torch.logsumexp(spread(log_pi, fit) + fit, 0) * known).sum() / known.sum().clamp(min=1)
        return loss + self.balance * load_balance(step.gather(torch.softmax(scores, 1)))

    def wanted(self, sample_ids: Tensor, memory: nn.Module | None) -> dict[str, Tensor] | None:
        """Return for every teacher the samples (N,) on which it is run."""
        assert isinstance(memory, Gate)
        if self.drop_below == 0:
            return None
        before = memory.before[sample_ids]
        enough = (
            (before >= self.drop_below) | (before == before.amax(1, keepdim=True)) | ~memory.known[sample_ids, None]
        )
        return dict(zip(memory.teachers, enough.unbind(1), strict=True))

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Take the importances of this epoch into use."""
        assert isinstance(memory, Gate)
        memory.turn(use=epoch + 1 >= self.warm_up)
