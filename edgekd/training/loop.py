"""The training loop, used by every stage that trains: phases, epochs, steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from edgekd.context import Context
from edgekd.data import Part
from edgekd.data.dataset import Augmentation
from edgekd.errors import InputError, StageError
from edgekd.losses import Answer, Setup
from edgekd.models.exported_graph import is_adapting, is_exported, set_adapting, set_training
from edgekd.models.fake_quantization import zero_ratios
from edgekd.models.signature import class_axis
from edgekd.models.weight_rounding import zero_ratio_alarm
from edgekd.teachers.teacher import Teacher
from edgekd.training.apart import check_apart, structure
from edgekd.training.augment import Variants
from edgekd.training.batch import Batch, Slice, load_batch
from edgekd.training.checkpoint import Checkpoint
from edgekd.training.fabric import Together, make_fabric, together
from edgekd.training.freezing import frozen, hold
from edgekd.training.history import History
from edgekd.training.interrupt import between_steps
from edgekd.training.keeper import Keeper, Score
from edgekd.training.masks import Masks
from edgekd.training.objective import Moment, Objective, Work
from edgekd.training.optimizer import make_optimizer, make_schedule
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings, batch_size, chosen_device, chosen_precision
from edgekd.training.task_loss import has_classes
from edgekd.training.teaching import Lesson, Teaching

BeforeStep = Callable[[nn.Module, float], None]  # of a network and the part of a phase that is done, from 0 to 1


@dataclass(frozen=True)
class Material:
    """What is learned from: the train part, other parts for phases that name other data, teachers and their own data.

    `teacher_part` holds the teachers' data where they are not paired with the student's; `score` judges a network on
    validation data, for early stopping. With `variants` the augmentations are fixed ones, so that teachers' answers to them
    can be kept. `before_step` may set weights to zero, which stay zero from then on.
    """

    part: Part
    augmentations: Sequence[Augmentation] = ()
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    phase_parts: Mapping[str, Part] = field(default_factory=dict)
    teacher_part: Part | None = None
    score: Score | None = None
    variants: Variants | None = None
    before_step: BeforeStep | None = None


def train(
    student: nn.Module,
    phases: Sequence[Phase],
    material: Material,
    settings: TrainingSettings,
    context: Context,
    description: str,
) -> History:
    """Train `student` in place, phase after phase, and return what happened.

    The weights are those after the last step (with a learning rate that falls to zero they are the best ones), the moving
    average where `ema` asks for it, or the best ones by validation where `patience` does. Same seed, device, threads,
    processes and settings give the same weights. With a checkpoint in the context a killed training goes on from its last
    whole epoch.

    Raises:
        InputError: a tap or a method does not fit the networks or the data.
        StageError: the loss is not finite, there are less than two samples, or something else than the student's own
            tensors would be exported with it.
    """
    device = chosen_device(context.device)
    fabric = make_fabric(device, chosen_precision(settings, device))
    layout = torch.channels_last if any(p.ndim == 4 for p in student.parameters()) else torch.contiguous_format
    _move(student, str(fabric.device), layout)
    checkpoint = Checkpoint(context.checkpoint)
    torch.manual_seed(context.seed)
    generator = torch.Generator().manual_seed(context.seed)
    course = _Course(student, material, settings, context, description, fabric, layout, generator, checkpoint)
    resumed = checkpoint.load()
    if resumed is not None:
        course.history = History(**resumed["history"])
        context.log(f"{description}: goes on after epoch {len(course.history.loss)}")
    for number, phase in enumerate(phases):
        if resumed is not None and number < resumed["phase"]:
            continue
        here = resumed if resumed is not None and number == resumed["phase"] else None
        course.run(number, phase, here)
        resumed = None
    _move(student, "cpu", torch.contiguous_format)
    set_training(student, False)
    return course.history


def check(
    student: nn.Module, phases: Sequence[Phase], material: Material, settings: TrainingSettings, context: Context
) -> None:
    """Refuse, before any work, phases that do not fit the networks or the data: everything runs once on two samples.

    Raises:
        InputError: a tap is no module, shapes do not fit, or a method lacks what it needs; the message says which.
    """
    fabric = make_fabric("cpu", "float32")
    layout = torch.contiguous_format
    for phase in phases:
        course = _Course(
            student, material, settings, context, "check", fabric, layout, torch.Generator(), Checkpoint(None)
        )
        part = course.part_of(phase)
        objective = Objective(student, phase, part.signature, Together(), settings.optimizer)
        teaching = Teaching(phase, material.teachers, material.teacher_part, fabric, layout, course.generator)
        with frozen(student, phase.freeze):
            if not objective.trained():
                raise InputError(f"phase {phase.name}: everything is frozen")
            few = course.few(part)
            first = course.prepare(objective, teaching, part, few)
            set_training(student, False)
            with torch.no_grad():
                switched = teaching.switched(few)
                objective(
                    Work(
                        few,
                        first.answers,
                        Moment(),
                        teacher_targets=first.targets,
                        teacher_valid=first.valid,
                        switched=switched,
                    )
                )


@dataclass
class _Course:
    """What the phases of one training share."""

    student: nn.Module
    material: Material
    settings: TrainingSettings
    context: Context
    description: str
    fabric: Any
    layout: torch.memory_format
    generator: torch.Generator
    checkpoint: Checkpoint
    history: History = field(default_factory=History)

    def part_of(self, phase: Phase) -> Part:
        """Return the data of a phase."""
        return self.material.phase_parts.get(phase.name, self.material.part)

    def few(self, part: Part) -> Batch:
        """Return a few samples of a part, without augmentations."""
        positions = torch.arange(min(len(part), max(2, 2 * self.fabric.world_size))).numpy()
        return load_batch(part, positions, Slice(), (), 0.0, torch.Generator(), str(self.fabric.device), self.layout)

    def _fixed(self, phase: Phase, epoch: int) -> tuple[Variants, int] | None:
        """Return the fixed augmentations that are due; other data than the train part have none, nothing of them is kept."""
        variants = self.material.variants
        if variants is None or phase.name in self.material.phase_parts:
            return None
        return variants, variants.of(epoch, self.material.augmentations)

    def run(self, number: int, phase: Phase, resumed: dict[str, Any] | None) -> None:
        """Run one phase."""
        settings, fabric = self.settings, self.fabric
        part = self.part_of(phase)
        size = batch_size(settings, len(part))
        if size < settings.batch_size:  # chosen here, as there are few samples
            size -= size % fabric.world_size
        if not size or size % fabric.world_size:
            raise InputError(
                f"batches of {size} samples cannot be shared by {fabric.world_size} processes evenly; choose a batch_size that can"
            )
        steps = len(part) // size
        if not steps:
            raise StageError(f"{len(part)} training samples are too few")
        epochs = phase.epochs or settings.epochs
        combined = together(fabric)
        objective = Objective(self.student, phase, part.signature, combined, settings.optimizer)
        teaching = Teaching(
            phase, self.material.teachers, self.material.teacher_part, fabric, self.layout, self.generator
        )
        before = structure(self.student)
        self.prepare(objective, teaching, part, self.few(part))
        objective.to(fabric.device)
        with frozen(self.student, phase.freeze):
            trained = objective.trained()
            if not trained:
                raise InputError(f"phase {phase.name}: everything is frozen")
            optimizer = make_optimizer(trained, settings, phase.learning_rate or settings.highest_rate)
            schedule = make_schedule(optimizer, settings, epochs * steps + 1)
            module, wrapped = fabric.setup(objective, optimizer)
            masks = Masks(self.student) if settings.keep_sparsity else None
            keeper = Keeper(
                self.student, settings, self.material.score, self.checkpoint, self.history, self.generator,
                self.context.log, fabric.global_rank == 0, phase.name, objective, optimizer, schedule, number,
            )  # fmt: skip
            first = keeper.restore(resumed) if resumed is not None else 0
            first = epochs if first is None else first
            name = self.description if phase.name == "distill" else f"{self.description}: {phase.name}"
            with self.context.progress(name, (epochs - first) * steps) as advance, between_steps() as interrupted:
                for epoch in range(first, epochs):
                    set_training(self.student, True)
                    hold(self.student, phase.freeze)
                    sums: dict[str, float] = {}
                    order = torch.randperm(len(part), generator=self.generator).numpy()
                    for step in range(steps):
                        batch = load_batch(
                            part, order[step * size : (step + 1) * size], Slice(fabric.global_rank, fabric.world_size),
                            self.material.augmentations, settings.mixup, self.generator, str(fabric.device), self.layout,
                            self._fixed(phase, epoch),
                        )  # fmt: skip
                        _adapt(self.student, settings, epoch * steps + step, epochs * steps)
                        moment = Moment((epoch * steps + step) / (epochs * steps), epoch, epoch * steps + step)
                        if self.material.before_step is not None:
                            self.material.before_step(self.student, moment.progress)
                            masks = Masks(self.student)
                        terms = self._step(module, wrapped, objective, teaching, batch, moment)
                        schedule.step()
                        if masks is not None:
                            masks.apply()
                        keeper.average()
                        for term, value in terms.items():
                            sums[term] = sums.get(term, 0.0) + value
                        advance(1)
                        interrupted()
                    if not all(torch.isfinite(tensor).all() for tensor in self.student.parameters()):
                        self._stop("the weights are not finite")
                    objective.end_epoch(epoch)
                    self._note(phase, sums, steps, epoch, epochs, combined)
                    self._watch_zeros()
                    stop = keeper.end_epoch(epoch)
                    interrupted()
                    if stop:
                        break
            teaching.flush()
            keeper.finish()
            _adapt(self.student, settings, 1, 1)
            check_apart(before, self.student, objective.memories_by_kind())
            self.history.teachers = teaching.cost() or self.history.teachers

    def prepare(self, objective: Objective, teaching: Teaching, part: Part, few: Batch) -> Lesson:
        """Make the memories of the methods from the answers to a few samples, and return what the teachers said."""
        set_training(self.student, False)
        with torch.no_grad():
            outputs, features = objective.taps.run(few.inputs)
        lesson = teaching.first_lesson(few)
        student = Answer(outputs, features)
        teaching.check(student, lesson.answers)
        axis = class_axis(part.signature.task)
        classes = max(2, student.output().shape[axis]) if has_classes(part.signature.task) else None
        objective.prepare(Setup(student, lesson.answers, len(part), classes, few.inputs, axis))
        return lesson

    def _step(
        self, module: Any, optimizer: Any, objective: Objective, teaching: Teaching, batch: Batch, moment: Moment
    ) -> dict[str, float]:
        """Take one step of the optimizer; return the terms as numbers.

        Raises:
            StageError: a term or its gradient is not finite; the message names it.
        """
        phase, settings = objective.phase, self.settings
        optimizer.zero_grad()
        work = None
        if phase.gradient_filter is not None and batch.groups is not None:
            terms = self._filtered(module, objective, teaching, batch, moment)
        else:
            work = _work(batch, teaching, objective, moment)
            losses = module(work)
            terms = _numbers(losses)
            self._check_finite(terms, work.teachers)
            self.fabric.backward(losses["total"])
        longest = math.inf if settings.clip_gradient is None else settings.clip_gradient
        norm = nn.utils.clip_grad_norm_(objective.parameters(), longest)
        if not torch.isfinite(norm):
            self._stop(f"the gradient of {', '.join(_guilty(objective, work)) or 'the total'} is not finite")
        optimizer.step()
        objective.learn_weights(terms.get("task", terms["total"]))
        return terms

    def _filtered(
        self, module: Any, objective: Objective, teaching: Teaching, batch: Batch, moment: Moment
    ) -> dict[str, float]:
        """Fill the gradients with what the filter makes of those of the groups of samples, each from a backward pass."""
        assert batch.groups is not None and objective.phase.gradient_filter is not None
        gathered: dict[str, list[Tensor]] = {}
        sums: dict[str, float] = {}
        groups = batch.groups.unique()
        for group in groups:
            some = batch.where(batch.groups == group)
            work = _work(some, teaching, objective, moment)
            losses = module(work)
            terms = _numbers(losses)
            self._check_finite(terms, work.teachers)
            self.fabric.backward(losses["total"])
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / len(groups)
            for name, parameter in objective.named_parameters():
                if parameter.grad is not None:
                    gathered.setdefault(name, []).append(parameter.grad.clone())
                    parameter.grad = None
        stacked = {name: torch.stack(gradients) for name, gradients in gathered.items()}
        filtered = objective.phase.gradient_filter(stacked)
        for name, parameter in objective.named_parameters():
            if name in filtered:
                parameter.grad = filtered[name]
        return sums

    def _check_finite(self, terms: Mapping[str, float], teachers: Mapping[str, Answer]) -> None:
        wrong = [name for name, value in terms.items() if not math.isfinite(value)]
        if not wrong:
            return
        named = [name for name in wrong if name != "total"] or wrong
        said = ", ".join(f"{one} is {terms[one]}" for one in named)
        unsure = [name for name, answer in teachers.items() if not _all_finite(answer)]
        if unsure:
            raise StageError(
                f"the loss is not finite: {said}; the teacher {', '.join(unsure)} answers infinite or no numbers"
            )
        self._stop("the loss is not finite", f": {said}")

    def _stop(self, problem: str, which: str = "") -> NoReturn:
        """Give up with a message; nothing is written over the last checkpoint."""
        path = self.checkpoint.path
        kept = path is not None and path.exists()
        where = f"; the weights after epoch {len(self.history.loss)} are kept in {path}" if kept else ""
        raise StageError(f"{problem} in epoch {len(self.history.loss) + 1}{which}; lower learning_rate{where}")

    def _watch_zeros(self) -> None:
        """Say how many ternary weights are zero, and where that is too few or too many."""
        if not is_exported(self.student):
            return
        ratios = zero_ratios(self.student)
        if ratios:
            self.history.zero_ratio = {name: round(ratio, 4) for name, ratio in ratios.items()}
            least, most = min(ratios.values()), max(ratios.values())
            said = zero_ratio_alarm(ratios) or f"{least:.0%} to {most:.0%} of a layer's weights are zero"
            self.context.log(f"{self.description}: {said}")

    def _note(
        self, phase: Phase, sums: Mapping[str, float], steps: int, epoch: int, epochs: int, combined: Together
    ) -> None:
        """Keep and log the means of an epoch, over all processes."""
        names = sorted(sums)
        means = (
            combined.total(torch.tensor([sums[name] / steps for name in names], dtype=torch.float64)) / combined.size
        )
        found = dict(zip(names, means.tolist(), strict=True))
        self.history.loss.append(found["total"])
        self.history.terms.append({name: value for name, value in found.items() if name != "total"})
        self.history.phases.append(phase.name)
        label = self.description if phase.name == "distill" else f"{self.description}: {phase.name}"
        self.context.log(f"{label}: epoch {epoch + 1}/{epochs}, loss {found['total']:.4f}")


def _adapt(student: nn.Module, settings: TrainingSettings, step: int, steps: int) -> None:
    """Let a fake-quantized graph's batch statistics and ranges follow in the first steps, then hold them."""
    if is_exported(student):
        wanted = step < settings.adapt * steps
        if is_adapting(student) != wanted:
            set_adapting(student, wanted)


def _work(batch: Batch, teaching: Teaching, objective: Objective, moment: Moment) -> Work:
    """Return a batch with what the teachers say of it."""
    lesson = teaching.lesson(batch, objective)
    return Work(
        batch,
        lesson.answers,
        moment,
        teacher_targets=lesson.targets,
        teacher_valid=lesson.valid,
        kept=lesson.kept,
        switched=teaching.switched(batch),
    )


def _guilty(objective: Objective, work: Work | None) -> list[str]:
    """Return the terms whose gradients are not finite; none where there is no single work to ask again for."""
    if work is None:
        return []
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    found = []
    for name, term in objective.terms(work)[0].items():
        gradients = (
            torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True) if term.requires_grad else ()
        )
        if any(gradient is not None and not torch.isfinite(gradient).all() for gradient in gradients):
            found.append(name)
    return found


def _all_finite(answer: Answer) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in answer.outputs.values() if tensor.is_floating_point())


def _numbers(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in losses.items()}


def training_part(part: Part) -> Part:
    """Return what of a part is trained on: all of it, for the task anomaly the samples that are known to be normal."""
    if part.signature.task != "anomaly" or part.targets is None:
        return part
    return replace(part, indices=part.indices[part.targets == 0])


def _move(module: nn.Module, device: str, layout: torch.memory_format) -> nn.Module:
    return module.to(device=device, memory_format=layout)  # type: ignore[call-overload,no-any-return]
