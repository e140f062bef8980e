"""A small network that learns, from what all teachers answer, to answer better than they do."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.committee.mixture import (
    WeightedCommittee,
    answered,
    cross_entropy,
    labels_of_answers,
    teacher_logits,
)
from edgekd.losses.committee.variance import fit_shares
from edgekd.losses.schedule import Schedule, Share
from edgekd.losses.step import Answer, Setup, Step, as_classes, at_least_float32


class MetaNetwork(nn.Module):
    """An MLP from the logits of K teachers to logits of the same C classes."""

    def __init__(self, teachers: int, classes: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(teachers * classes, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, logits: Tensor) -> Tensor:
        """Return (N, ..., C) from (K, N, ..., C); a constant added to a teacher's logits changes nothing."""
        centred = logits - as_classes(logits).mean(-1, keepdim=True)
        return self.layers(centred.movedim(0, -2).flatten(-2))


class MetaMlp(WeightedCommittee):
    """The teachers by their fit to the labels, and from a moment on a network above them, trained beside the student.

    The network learns from the labels from the start and joins the committee when `share` says so.
    """

    title: ClassVar[str] = "Meta network over the teachers"
    source: ClassVar[str] = "HumP-KD, arXiv 2606.14684, Meta-MLP ensemble and stages"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "half of the answer is the network's from two thirds of training on"
    applies: ClassVar[str] = "classifiers that are wrong in a way labels can teach; classes of the main output"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "labels"})

    kind: Literal["meta-mlp"] = "meta-mlp"
    width: int = Field(default=64, ge=1, description="hidden width of the network")
    share: Share = Field(
        default=Schedule(start=0.0, end=0.5, shape="step", until=2 / 3), description="the network's part of the answer"
    )

    def prepare(self, setup: Setup) -> nn.Module:
        """Return the network."""
        super().prepare(setup)
        output = next(iter(setup.teachers.values())).output()
        network = MetaNetwork(len(setup.teachers), output.shape[setup.class_axis], self.width)
        return network.to(output.device, at_least_float32(output).dtype)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Answer:
        """Return the mean of the teachers and the network."""
        assert memory is not None
        logits = teacher_logits(step)
        part = self.share.at(step.progress)
        teachers = fit_shares(logits, labels_of_answers(step, logits), answered(logits))
        meta = memory(logits).detach().unsqueeze(0)
        share = torch.cat([(1 - part) * teachers, torch.full_like(teachers[:1], part)])
        return self.answer(step, torch.cat([logits, meta]), share)

    def loss(self, step: Step, answer: Answer, memory: nn.Module | None) -> Tensor | None:
        """Return the network's cross-entropy with the labels, None where there are none."""
        assert memory is not None
        logits = teacher_logits(step)
        labels = labels_of_answers(step, logits)
        if labels is None:
            return None
        return cross_entropy(memory(logits), labels).sum() / (labels >= 0).sum().clamp(min=1)
