"""What training minimizes: the task's own loss and the scheduled, weighted losses against teachers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.step import at_least_float32, fitting, hide_padding, merged
from edgekd.losses.weighting import broadcast_weight
from edgekd.models.signature import Signature, Task, class_axis
from edgekd.models.taps import Taps
from edgekd.training.batch import Batch
from edgekd.training.fabric import Together
from edgekd.training.phase import Phase
from edgekd.training.task_loss import counted, has_task_loss, task_loss


@dataclass(frozen=True)
class Moment:
    """Where training stands; `progress` goes from 0 to 1 over the phase."""

    progress: float = 0.0
    epoch: int = 0
    number: int = 0


class Work:
    """One batch with all that the objective needs for it.

    A plain object, which libraries that move and copy the arguments of a module leave as it is.
    """

    def __init__(
        self,
        batch: Batch,
        teachers: Mapping[str, Answer],
        moment: Moment,
        *,
        teacher_targets: Tensor | None = None,
        teacher_valid: Tensor | None = None,
        kept: Tensor | None = None,
        switched: Callable[[Tensor, str], Tensor] | None = None,
    ) -> None:
        self.batch = batch
        self.teachers = teachers
        self.moment = moment
        self.teacher_targets = teacher_targets
        self.teacher_valid = teacher_valid
        self.kept = kept
        self.switched = switched


class Objective(nn.Module):
    """The student with everything that is trained beside it, as one module whose answer is the total loss of a batch.

    total = task(progress) x task loss + sum of weight(progress) x mean(importance x loss) + what trains the memories.

    `memories` hold what lives only in training: projectors, tables, policies. They are parts of this module, never of the
    student, so they are trained, synchronised and saved with it and cannot reach an export.
    """

    def __init__(
        self, student: nn.Module, phase: Phase, signature: Signature, together: Together, optimizer: str
    ) -> None:
        super().__init__()
        self.student = student
        self.memories = nn.ModuleDict()
        self.phase = phase
        self._signature = signature
        self._together = together
        self._optimizer = optimizer
        self.taps = Taps(student, [tap for method in phase.methods() for tap in method.student_taps()])

    def prepare(self, setup: Setup) -> None:
        """Make the memories of all methods.

        Raises:
            InputError: a method cannot compare what it is given; its message says which and why.
        """
        for name, method in self.phase.named_methods():
            memory = method.prepare(setup)
            if memory is not None:
                self.memories[name] = memory

    def memory(self, name: str) -> Any:
        """Return what a method keeps, or None."""
        return dict(self.memories).get(name)

    def memories_by_kind(self) -> dict[str, nn.Module]:
        """Return what the methods keep, by what messages call them."""
        return {
            f"{method.kind} ({name})": self.memories[name]
            for name, method in self.phase.named_methods()
            if name in self.memories
        }

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that the optimizer moves; those of weights learn by themselves."""
        own = {
            id(p)
            for name, memory in self.memories.items()
            if name.startswith("importance")
            for p in memory.parameters()
        }
        return [p for p in self.parameters() if p.requires_grad and id(p) not in own]

    def forward(self, work: Work) -> dict[str, Tensor]:
        """Return `total` and every term of it, scalars; the terms are detached and carry their coefficients."""
        terms, own = self.terms(work)
        total = sum([*terms.values(), *own], torch.zeros((), device=work.batch.ids.device))
        return {"total": total, **{name: term.detach() for name, term in terms.items()}}

    def terms(self, work: Work) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return every term with its coefficient and its gradient, and what trains the memories."""
        outputs, features = self.taps.run(work.batch.inputs)
        with torch.autocast(work.batch.ids.device.type, enabled=False):  # losses do not compute in half precision
            return self._losses(work, Answer(outputs, features))

    def _losses(self, work: Work, student: Answer) -> tuple[dict[str, Tensor], list[Tensor]]:
        batch, moment = work.batch, work.moment
        phase, task = self.phase, self._signature.task
        targets = None if batch.mixed is not None else batch.targets
        valid = batch.valid if batch.valid is not None else counted(task, targets)
        teachers = {name: hide_padding(answer, work.teacher_valid) for name, answer in work.teachers.items()}
        step = Step(
            student=hide_padding(student, valid if batch.valid is not None or task == "tokens" else None),
            teachers=teachers,
            teacher=merged(teachers) if teachers else None,
            inputs=batch.inputs,
            targets=targets,
            valid=_and(valid, work.kept),
            sample_ids=batch.ids,
            groups=batch.groups,
            extras=batch.extras,
            teacher_targets=work.teacher_targets,
            teacher_valid=work.teacher_valid,
            class_axis=class_axis(task),
            progress=moment.progress,
            epoch=moment.epoch,
            number=moment.number,
            optimizer=self._optimizer,
            gather=self._together.gather,
        )
        terms: dict[str, Tensor] = {}
        own: list[Tensor] = []
        if phase.committee is not None:
            memory = self.memory("committee")
            combined = phase.committee(step, memory)
            loss = phase.committee.loss(step, combined, memory)
            own += [] if loss is None else [loss]
            step = replace(step, teacher=Answer(combined.outputs, combined.features or step.the_teacher.features))
        coefficient = phase.task.at(moment.progress)
        if coefficient and has_task_loss(task, labelled=batch.targets is not None):
            terms["task"] = coefficient * self._task(student, batch)
            step = replace(step, task=terms["task"])
        for position, method in enumerate(phase.losses):
            coefficient = method.weight.at(moment.progress)
            if not coefficient:
                continue
            memory = self.memory(f"loss{position}")
            seen = step if "labels" not in method.needed else replace(step, valid=_and(step.valid, batch.labelled))
            if work.switched is not None and "switch" in method.needs:
                seen = _with_switch(seen, method, memory, work.switched)
            value = method(seen, memory)
            if method.importance is not None:
                weight = method.importance(seen, value.detach(), self.memory(f"importance{position}"))
                value = value * self._mean_one(weight, value, seen.valid)
            terms[phase.term_names[position]] = coefficient * self._mean(value, seen.valid)
            extra = method.own_loss(seen, memory)
            own += [] if extra is None else [extra]
        return terms, own

    def _task(self, student: Answer, batch: Batch) -> Tensor:
        task, first = self._signature.task, student.output()
        kept = _labelled(task, batch.targets, batch)
        if batch.mixed is None:
            further = [
                self._mean(task_loss("regression", output, batch.extras[f"targets.{name}"], batch.inputs), None)
                for name, output in student.outputs.items()
                if f"targets.{name}" in batch.extras
            ]
            loss = self._mean(task_loss(task, first, batch.targets, batch.inputs, batch.valid), kept)
            return sum(further, loss)
        others, share = batch.mixed
        mine = self._mean(task_loss(task, first, batch.targets, batch.inputs, batch.valid), kept)
        return share * mine + (1 - share) * self._mean(
            task_loss(task, first, others, batch.inputs, batch.valid),
            _labelled(task, others, batch),
        )

    def _mean(self, value: Tensor, valid: Tensor | None) -> Tensor:
        """Return the mean over the valid elements of the global batch, so that the mean over processes is that mean."""
        if not value.ndim:
            return value
        valid = fitting(valid, value)
        if valid is None:
            return value.mean()
        weight = broadcast_weight(valid.to(value.dtype), value)
        count = self._together.total(weight.sum()) / self._together.size
        return (value * weight).sum() / count.clamp(min=1 / self._together.size)

    def _mean_one(self, weight: Tensor, value: Tensor, valid: Tensor | None) -> Tensor:
        """Return weights scaled to a mean of 1 over the valid elements of the global batch; ones where all are 0."""
        weight = broadcast_weight(weight, value)
        valid = fitting(valid, value)
        count = torch.ones_like(value) if valid is None else broadcast_weight(valid.to(value.dtype), value)
        sums = self._together.total(torch.stack([(weight * count).sum(), count.sum()]))
        mean = sums[0] / sums[1].clamp(min=1)
        return weight / mean if mean > 0 else torch.ones_like(weight)

    def end_epoch(self, epoch: int) -> None:
        """Let every method do what is due after an epoch."""
        for name, method in self.phase.named_methods():
            end = getattr(method, "end_epoch", None)
            if end is not None:
                end(self.memory(name), epoch)

    def learn_weights(self, loss: float) -> None:
        """Let learned weights learn from the loss of the step just made."""
        for position, one in enumerate(self.phase.losses):
            if one.importance is not None:
                one.importance.update(self.memory(f"importance{position}"), loss)


def _labelled(task: Task, targets: Tensor | None, batch: Batch) -> Tensor | None:
    """Return which of the targets of a batch are labels, None where all are."""
    return targets >= 0 if batch.labelled is not None and targets is not None else counted(task, targets)


def _and(valid: Tensor | None, kept: Tensor | None) -> Tensor | None:
    """Return which elements count: those of `valid` (N, ...) whose sample is among `kept` (N,)."""
    if valid is None or kept is None:
        return kept if valid is None else valid
    return valid & kept.reshape(kept.shape + (1,) * (valid.ndim - 1))


def _with_switch(step: Step, loss: Any, memory: Any, switched: Callable[[Tensor, str], Tensor]) -> Step:
    """Return the step with what the teacher answers when the student's feature takes the place of its own."""
    tokens = at_least_float32(step.student.features[loss.switch_from])
    tokens = tokens if memory is None else memory.adapt(tokens)
    feature = switched(tokens, loss.switch_into)
    teacher = step.the_teacher
    return replace(step, teacher=Answer(teacher.outputs, {**teacher.features, "switch": feature}))
