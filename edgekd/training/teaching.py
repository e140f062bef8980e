"""Asking the teachers: which of them, for what, and only as far as it is needed."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.errors import InputError, StageError
from edgekd.losses import Answer
from edgekd.teachers.cached import CachedTeacher
from edgekd.teachers.live import LiveTeacher
from edgekd.teachers.teacher import Teacher
from edgekd.training.batch import Batch, Slice, load_batch, to_layout
from edgekd.training.objective import Objective
from edgekd.training.phase import Phase

SWITCH = "switch"  # the feature under which what comes out of a second pass is found


@dataclass(frozen=True)
class Lesson:
    """What the teachers answer to a batch.

    `targets` are the labels of their own batch, where data are not paired; `valid` says which elements count in the batch
    that they saw, `kept` (N,) whose answers may be used.
    """

    answers: dict[str, Answer]
    targets: Tensor | None = None
    kept: Tensor | None = None
    valid: Tensor | None = None


class Teaching:
    """The teachers of one phase.

    A tap `NAME/PATH` belongs to the teacher of that name, a plain `PATH` to the first teacher that has the module.
    """

    def __init__(
        self,
        phase: Phase,
        teachers: Mapping[str, Teacher],
        own_data: Part | None,
        fabric: Any,
        layout: torch.memory_format,
        generator: torch.Generator,
    ) -> None:
        self._phase = phase
        self._fabric = fabric
        self._layout = layout
        self._own_data = own_data
        self._known_samples = own_data is None and phase.data is None  # sample ids are positions in the train part
        needs = phase.needs
        self._wanted = bool(needs & {"teacher", "features", "switch"} or phase.committee)
        self._teachers = dict(teachers) if self._wanted else {}
        self._random = generator
        self._known: dict[str, Answer] = {}  # to a few samples, for the shapes
        if self._wanted and not teachers and "teacher" in needs:
            raise InputError(f"phase {phase.name} needs a teacher; give --teacher")
        if own_data is not None and phase.committee is not None and "paired" in phase.committee.needs:
            raise InputError(
                f"phase {phase.name}: {phase.committee.kind} learns which teachers a sample needs, and with teacher_data they "
                "see other samples; take another committee"
            )
        for live in self._live().values():
            live.network.to(device=fabric.device, memory_format=layout)  # type: ignore[call-overload]
        self._owners = {tap: self._owner(tap) for tap in self._all_taps()} if self._teachers else {}

    def _live(self) -> dict[str, LiveTeacher]:
        """Return the networks among the teachers, behind their caches too."""
        behind = {name: one.live if isinstance(one, CachedTeacher) else one for name, one in self._teachers.items()}
        return {name: one for name, one in behind.items() if isinstance(one, LiveTeacher)}

    def _all_taps(self) -> list[str]:
        return [tap for method in self._phase.methods() for tap in _taps_of(method, None, everything=True)]

    def _owner(self, tap: str) -> str:
        name, slash, _ = tap.partition("/")
        if slash and name in self._teachers:
            return name
        if not any(one.live_features for one in self._teachers.values()):
            raise InputError(
                f"the tap {tap} needs a teacher that shows its features; {', '.join(self._teachers)} gives outputs only"
            )
        live = self._live()
        for name, one in live.items():
            if one.has_tap(tap):
                return name
        if not live:  # stored features
            return next(name for name, one in self._teachers.items() if one.live_features)
        name, one = next(iter(live.items()))
        try:
            one.check_tap(tap)
        except InputError as error:
            raise InputError(f"the teacher {name} has {error}") from error
        raise InputError(f"no teacher has the module of the tap {tap}")

    def first_lesson(self, few: Batch) -> Lesson:
        """Return what every teacher answers to a few samples (of its own data), at all taps that may ever be needed."""
        targets = None
        if self._own_data is not None and self._teachers:
            few = self._own(torch.arange(len(few)) % len(self._own_data), Slice())
            targets = few.targets
        try:
            self._known = self._ask(few, self._all_taps(), outputs=True)
        except StageError as error:  # nothing has been done yet: it is the teacher that does not fit
            raise InputError(str(error)) from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # of torch, inside a network
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in few.inputs.items())
            raise InputError(
                f"a teacher ({', '.join(self._teachers)}) cannot run on these inputs ({shapes}): {str(error).splitlines()[0]}; "
                "give a teacher of such inputs, or name its own with teacher_inputs"
            ) from error
        return Lesson(self._known, targets, valid=few.valid)

    def check(self, student: Answer, teachers: Mapping[str, Answer]) -> None:
        """Check that teachers answer in the student's shapes where losses compare outputs.

        Raises:
            InputError: they do not; names and shapes are given.
        """
        compared = {loss.output for loss in self._phase.losses if hasattr(loss, "output") and "teacher" in loss.needs}
        for name, answer in teachers.items():
            for output in compared:
                if output is not None and (output not in student.outputs or output not in answer.outputs):
                    raise InputError(
                        f"there is no output {output!r} in both; the student has {', '.join(student.outputs)}, the teacher "
                        f"{name} {', '.join(answer.outputs)}"
                    )
                mine, yours = tuple(student.output(output).shape[1:]), tuple(answer.output(output).shape[1:])
                if mine != yours:
                    raise InputError(
                        f"the outputs of the teacher {name} have the shape {yours}, the student's {mine}; "
                        "compare features instead, or take a teacher of the same classes"
                    )

    def lesson(self, batch: Batch, objective: Objective) -> Lesson:
        """Return the teachers' answers to a batch."""
        if not self._teachers:
            return Lesson({})
        taps = [
            tap
            for name, method in self._phase.named_methods()
            for tap in _taps_of(method, objective.memory(name), everything=False)
        ]
        targets = None
        if self._own_data is not None:
            batch = self._drawn(len(batch))
            targets = batch.targets
        committee = self._phase.committee
        wanted = None if committee is None else committee.wanted(batch.ids, objective.memory("committee"))
        answers = self._ask(batch, taps, outputs=self._phase.wants_outputs, wanted=wanted)
        kept = None
        for teacher in self._teachers.values():
            if not self._known_samples:
                continue
            if isinstance(teacher, CachedTeacher):
                usable = teacher.kept(batch.ids, batch.variant)
            else:
                usable = teacher.kept(batch.ids)
            if usable is not None:
                kept = usable if kept is None else kept & usable
        return Lesson(answers, targets, kept, batch.valid)

    def _drawn(self, count: int) -> Batch:
        """Return a batch of the teachers' own data, drawn at random."""
        assert self._own_data is not None
        positions = torch.randint(len(self._own_data), (count * self._fabric.world_size,), generator=self._random)
        return self._own(positions, Slice(self._fabric.global_rank, self._fabric.world_size))

    def _own(self, positions: Tensor, mine: Slice) -> Batch:
        """Return the samples of the teachers' own data at the positions of this process."""
        assert self._own_data is not None
        device = str(self._fabric.device)
        return load_batch(self._own_data, positions.numpy(), mine, (), 0.0, self._random, device, self._layout)

    def _ask(
        self, batch: Batch, taps: list[str], *, outputs: bool, wanted: Mapping[str, Tensor] | None = None
    ) -> dict[str, Answer]:
        everything = to_layout({**batch.extras, **batch.inputs}, self._layout)
        answers, live = {}, self._live()
        for name, teacher in self._teachers.items():
            mine = {tap: tap.removeprefix(f"{name}/") for tap in dict.fromkeys(taps) if self._owners[tap] == name}
            if not outputs and not mine:
                continue
            chosen = None if wanted is None or mine else wanted.get(name)  # features are learned of all samples
            if name in live:
                live[name].asked += len(batch)
            given = inputs_for(teacher, everything, batch.inputs)
            some = given if chosen is None else {key: tensor[chosen] for key, tensor in given.items()}
            ids = batch.ids if chosen is None else batch.ids[chosen]
            if not len(ids):
                answers[name] = _zeros(self._known[name], len(batch), mine, outputs=outputs)
                continue
            precision = self._fabric.autocast() if name in live else nullcontext()  # a black box has its own
            with torch.no_grad(), precision:
                answer = self._answer(teacher, some, ids, batch.variant, tuple(mine.values()), outputs)
            made = Answer(answer.outputs, {tap: answer.features[path] for tap, path in mine.items()})
            answers[name] = made if chosen is None else _spread(made, chosen)
        return answers

    def _answer(
        self,
        teacher: Teacher,
        inputs: Mapping[str, Tensor],
        ids: Tensor,
        variant: int,
        taps: tuple[str, ...],
        outputs: bool,
    ) -> Answer:
        known = ids if self._known_samples else None
        if isinstance(teacher, CachedTeacher):
            return teacher.answer(inputs, sample_ids=known, taps=taps, outputs_wanted=outputs, variant=variant)
        return teacher.answer(inputs, sample_ids=known, taps=taps, outputs_wanted=outputs)

    def flush(self) -> None:
        """Write down what caches have not written yet."""
        for teacher in self._teachers.values():
            if isinstance(teacher, CachedTeacher):
                teacher.cache.flush()

    def switched(self, batch: Batch) -> Callable[[Tensor, str], Tensor] | None:
        """Return what runs the first teacher with a module's answer replaced, where a loss asks for that."""
        if "switch" not in self._phase.needs:
            return None
        teacher = next(iter(self._live().values()), None)
        if teacher is None:
            raise InputError(
                "a visual switch runs through the teacher's own modules; it needs a torch network as teacher"
            )
        return partial(self._through, teacher, inputs_for(teacher, {**batch.extras, **batch.inputs}, batch.inputs))

    def _through(self, teacher: LiveTeacher, inputs: Mapping[str, Tensor], tokens: Tensor, path: str) -> Tensor:
        with self._fabric.autocast():  # in the teacher's precision, as its first pass
            return teacher.switched(inputs, path, tokens)

    def cost(self) -> dict[str, Any]:
        """Return how many samples the teachers were asked and how much of their work was done, in multiply-accumulates."""
        return {
            name: {"samples": one.samples, "macs": one.macs, "share": round(one.share(), 4)}
            for name, one in self._live().items()
        }


def inputs_for(teacher: Teacher, everything: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a teacher takes: the inputs that it names, among the data's inputs and extras; else the student's.

    Raises:
        InputError: the data lack one.
    """
    names = teacher.inputs or tuple(inputs)
    missing = [name for name in names if name not in everything]
    if missing and len(names) == len(inputs):  # the same inputs under other names
        return dict(inputs)
    if missing:
        raise InputError(
            f"the teacher {teacher.name} takes {', '.join(names)}; the data have no {', '.join(missing)}, only {', '.join(everything)}"
        )
    return {name: everything[name] for name in names}


def _taps_of(method: Any, memory: nn.Module | None, *, everything: bool) -> list[str]:
    """Return the teacher's taps that a method needs now, or may ever need; `switch` is no module but a second pass."""
    taps: tuple[str, ...] = ()
    if everything and hasattr(method, "all_teacher_taps"):
        taps = method.all_teacher_taps()
    elif hasattr(method, "teacher_taps"):
        taps = method.teacher_taps(memory)
    return [tap for tap in taps if tap != SWITCH]


def _spread(answer: Answer, chosen: Tensor) -> Answer:
    """Return the answer with rows of zeros for the samples that were not asked."""

    def full(tensor: Tensor) -> Tensor:
        rows = torch.zeros(len(chosen), *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)
        rows[chosen] = tensor
        return rows

    return Answer(
        {name: full(tensor) for name, tensor in answer.outputs.items()},
        {name: full(tensor) for name, tensor in answer.features.items()},
    )


def _zeros(known: Answer, count: int, taps: Mapping[str, str], *, outputs: bool) -> Answer:
    """Return zeros in the shapes of a known answer, for a teacher that is asked for none of the samples."""

    def empty(tensor: Tensor) -> Tensor:
        return torch.zeros(count, *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)

    return Answer(
        {name: empty(tensor) for name, tensor in known.outputs.items()} if outputs else {},
        {tap: empty(known.features[tap]) for tap in taps},
    )
