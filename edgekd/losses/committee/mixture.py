"""How weighted teachers become one answer, in logits that every loss between logits understands."""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.committee.committee import Committee
from edgekd.losses.labels import class_labels
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Answer, Step, as_classes, at_least_float32, merged


def mixture(logits: Tensor, share: Tensor, temperature: float = 1.0) -> Tensor:
    """Return logits z with softmax(z / T) = sum_k w_k softmax(z_k / T): those of the mixture of K teachers.

    Of the logits that do so (they differ by a constant), z = T (log mixture + sum_k w_k logsumexp(z_k / T)): one teacher
    alone comes back as it is. A single class is a probability sigmoid(z / T), mixed in the same way.

    Args:
        logits: (K, ..., C).
        share: w (K, ...), not negative, with the sum 1 over teachers.
        temperature: T > 0.

    Returns:
        (..., C).
    """
    scaled = as_classes(logits / temperature)
    level = (share.unsqueeze(-1) * torch.logsumexp(scaled, -1, keepdim=True)).sum(0)
    mixed = temperature * (torch.logsumexp(share.log().unsqueeze(-1) + torch.log_softmax(scaled, -1), 0) + level)
    return mixed[..., 1:] - mixed[..., :1] if logits.shape[-1] == 1 else mixed


def shares(weight: Tensor, present: Tensor) -> Tensor:
    """Return weights with the sum 1 over the teachers that are present; equal ones where all their weights are 0.

    Args:
        weight: (K, N, ...), not negative.
        present: (K, N), at least one teacher a sample; the others get 0.
    """
    there = spread(present, weight).to(weight.dtype)
    weight = weight * there
    total = weight.sum(0)
    return torch.where(total > 0, weight / torch.where(total > 0, total, 1), there / there.sum(0))


def spread(present: Tensor, weight: Tensor) -> Tensor:
    """Return `present` (K, N) in the shape of the weights (K, N, ...)."""
    return present.reshape(present.shape + (1,) * (weight.ndim - 2)).expand(weight.shape)


def answered(logits: Tensor) -> Tensor:
    """Return which teachers answered each sample, (K, N): those whose row (N, ...) of (K, N, ...) is not all zeros.

    Where none did, all count: their equal answers say nothing.
    """
    there = (logits != 0).flatten(2).any(2)
    return there | ~there.any(0)


def teacher_logits(step: Step) -> Tensor:
    """Return the main outputs of all teachers (K, N, ..., C), detached, classes last, in at least float32."""
    return torch.stack([step.class_last(answer.output()).detach() for answer in step.teachers.values()])


def labels_of_answers(step: Step, logits: Tensor) -> Tensor | None:
    """Return the labels (N, ...) of the samples that the teachers answered, for logits (K, N, ..., C); None without any.

    Where the teachers see data of their own, these are their data's labels.
    """
    if step.teacher_targets is not None:
        step = replace(step, targets=step.teacher_targets, valid=step.teacher_valid)
    return class_labels(step, logits.shape[1:-1])


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log p_y, (...), of logits (..., C) for labels that broadcast to (...); 0 where the label is negative."""
    labels = labels.expand(logits.shape[:-1])
    log_p = torch.log_softmax(as_classes(logits), -1)
    loss = -log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1))[..., 0]
    return torch.where(labels >= 0, loss, 0)


class WeightedCommittee(Committee):
    """The weighted mean of the teachers; a subclass says how much each one counts.

    The answer's main output is in logits: softmax(z / T) are the mixed probabilities. Further outputs that all teachers
    have in one shape are their weighted means. Features are not mixed, as those of different networks mean different
    things: of a tap, the answer has the first teacher's that has it.
    """

    of: Literal["probabilities", "logits"] = Field(
        default="probabilities", description="what is averaged; logits also for values that are no classes"
    )
    temperature: Temperature = Field(default=constant(1.0), description="T of the probabilities that are averaged")

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Answer:
        """Return the weighted mean."""
        logits = teacher_logits(step)
        return self.answer(step, logits, self.shares(step, logits, memory))

    def shares(self, step: Step, logits: Tensor, memory: nn.Module | None) -> Tensor:
        """Return how much each teacher counts, (K, N) or (K, N, positions ...), with the sum 1 over teachers."""
        raise TypeError(f"{type(self).__name__} has no shares")

    def answer(self, step: Step, logits: Tensor, share: Tensor) -> Answer:
        """Return the answer of members with these logits (K, N, ..., C) and shares; the teachers are the first of them."""
        share = share.detach()
        share = share.reshape(share.shape + (1,) * (logits.ndim - 1 - share.ndim)).expand(logits.shape[:-1])
        if self.of == "logits":
            main = (share.unsqueeze(-1) * logits).sum(0)
        else:
            main = mixture(logits, share, self.temperature.at(step.progress))
        first, *others = step.teachers.values()
        name = next(iter(first.outputs))
        outputs = {name: main.movedim(-1, step.class_axis)}
        a_sample = share[: len(step.teachers)].flatten(2).mean(2) if share.ndim > 2 else share[: len(step.teachers)]
        a_sample = shares(a_sample, torch.ones_like(a_sample, dtype=torch.bool))
        for extra, output in first.outputs.items():
            if extra != name and all(
                extra in one.outputs and one.outputs[extra].shape == output.shape for one in others
            ):
                values = torch.stack([at_least_float32(one.outputs[extra]).detach() for one in (first, *others)])
                outputs[extra] = (spread(a_sample, values).to(values.dtype) * values).sum(0)
        features = merged(step.teachers).features
        return Answer(outputs, {tap: feature.detach() for tap, feature in features.items()})
