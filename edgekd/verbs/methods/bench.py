"""Every method against the arm without distillation: the same student, data, epochs and seeds."""

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import Tensor, nn

from edgekd.context import Context, Progress
from edgekd.data import Part
from edgekd.errors import EdgekdError, InputError
from edgekd.evaluate import judge_outputs
from edgekd.files import digest, write_json
from edgekd.losses import FeatureLoss
from edgekd.models.network import run_network
from edgekd.models.source import network_digest
from edgekd.run import code_version
from edgekd.target import explain
from edgekd.teachers.live import LiveTeacher
from edgekd.teachers.teacher import Teacher
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings
from edgekd.verbs.methods.experiments import Experiment, TeacherRecipe, experiment, training_context
from edgekd.verbs.statistics import Compared, compared

SHIPPED = Path(__file__).with_name("bench.toml")
NONE = "no distillation"
TASK_ONLY = Phase.model_validate({"task": 1.0})


@dataclass(frozen=True)
class Arm:
    """One way to train the student of an experiment; `longer` times its epochs and `training` are an arm's own."""

    data: str
    name: str
    phase: Phase
    longer: int = 1
    training: Mapping[str, Any] = field(default_factory=dict)

    def in_words(self) -> str:
        """Return what is minimized, and what is not as the experiment has it."""
        terms = [f"{loss.weight} {name}" for loss, name in zip(self.phase.losses, self.phase.term_names, strict=True)]
        own = [f"{name} {value}" for name, value in self.training.items()]
        own += [f"{self.longer} x epochs"] * (self.longer > 1)
        return ", ".join([" + ".join([f"{self.phase.task} task", *terms]), *own])

    def kinds(self) -> set[str]:
        """Return the kinds of all methods that take part."""
        policies = [
            loss.layers for loss in self.phase.losses if isinstance(loss, FeatureLoss) and loss.layers is not None
        ]
        return {method.kind for method in [*self.phase.methods(), *policies]}


@dataclass(frozen=True)
class Row:
    """An arm's scores, a seed each, against the arm without distillation.

    `teacher_share` is how much of all teachers' work was done, 1 where all were run on every sample; None without a teacher.
    """

    name: str
    scores: tuple[float, ...]
    against: Compared | None
    problem: str | None = None
    teacher_share: float | None = None


@dataclass(frozen=True)
class Table:
    """All arms of one experiment."""

    experiment: Experiment
    epochs: int
    seeds: tuple[int, ...]
    teachers: Mapping[str, float]
    rows: tuple[Row, ...] = field(default_factory=tuple)

    def title(self) -> str:
        """Return what was compared."""
        known = ", ".join(f"{name} {score:.2f}" for name, score in self.teachers.items())
        unit = f"{self.experiment.metric.name} in {self.experiment.metric.unit}"
        return f"{self.experiment.title}; {self.epochs} epochs, {len(self.seeds)} seeds; {unit}; teachers: {known}"

    def columns(self) -> list[str]:
        """Return the heads of the columns."""
        return ["arm", ">mean", ">difference", ">95 % interval", ">p", ">p (Holm)", "verdict"]

    def rows_in_words(self) -> list[tuple[str, ...]]:
        """Return the cells."""
        return [_cells(row) for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "data": self.experiment.name,
            "title": self.title(),
            "metric": self.experiment.metric.name,
            "epochs": self.epochs,
            "seeds": list(self.seeds),
            "teachers": dict(self.teachers),
            "arms": [
                {
                    "name": row.name,
                    "scores": list(row.scores),
                    "difference": None if row.against is None else vars(row.against.difference),
                    "p_holm": None if row.against is None else row.against.corrected,
                    "problem": row.problem,
                    "teacher_share": row.teacher_share,
                }
                for row in self.rows
            ],
        }


def _cells(row: Row) -> tuple[str, ...]:
    if row.problem is not None:
        return (row.name, "", "", "", "", "", f"failed: {row.problem}")
    mean = f"{np.mean(row.scores):.2f}"
    if row.against is None:
        return (row.name, mean, "", "", "", "", "")
    one = row.against.difference
    return (
        row.name, mean, *one.in_words(), f"{one.p:.4f}", f"{row.against.corrected:.4f}", row.against.verdict,
    )  # fmt: skip


class ArmSettings(BaseModel):
    """One `[[arm]]` of a file: the data it is for, what it trains with, and the fields of a phase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: tuple[str, ...] = Field(min_length=1, description="names of experiments, one or a list")
    name: str | None = Field(default=None, min_length=1, description="not set: its losses")
    longer: int = Field(default=1, ge=1, description="times the experiment's epochs")
    training: TrainingSettings = Field(
        default=TrainingSettings(), description="settings of the training in place of the experiment's"
    )
    phase: Phase = Field(description="all else that stands in the table; `task` is 0.3 where nothing is said")

    @model_validator(mode="before")
    @classmethod
    def _with_phase(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        own = {field: value[field] for field in ("data", "name", "longer", "training") if field in value}
        return {**own, "phase": {"task": 0.3, **{key: item for key, item in value.items() if key not in own}}}

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("training")
    @classmethod
    def _longer_for_epochs(cls, value: TrainingSettings) -> TrainingSettings:
        if "epochs" in value.model_fields_set:
            raise ValueError("epochs are the experiment's; give `longer`, how many times as many")
        return value

    @field_validator("name")
    @classmethod
    def _not_the_baseline(cls, value: str | None) -> str | None:
        if value == NONE:
            raise ValueError(f"{NONE!r} is the arm that every other one is compared with; choose another name")
        return value

    def arms(self) -> list[Arm]:
        """Return the arm for every data set."""
        name = self.name or "+".join(loss.kind for loss in self.phase.losses)
        own = self.training.model_dump(exclude_unset=True)  # in the order of the fields
        return [Arm(one, name, self.phase, self.longer, own) for one in self.data]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    arm: tuple[ArmSettings, ...] = Field(min_length=1)


def read_arms(path: Path | None, sets: Sequence[str] = (), methods: Sequence[str] = ()) -> list[Arm]:
    """Read the arms: `[[arm]]` tables, see `ArmSettings`.

    Args:
        path: of the file; None: the shipped one.
        sets: names of data; none: all.
        methods: names of arms, or where there is no such arm kinds that arms use; none: all.

    Raises:
        InputError: the file is wrong, or nothing is left.
    """
    path = path or SHIPPED
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        listed = _File.model_validate(content).arm
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    arms = [arm for one in listed for arm in one.arms()]
    known = {arm.data for arm in arms}
    strange = [name for name in sets if name not in known]
    if strange:
        raise InputError(f"no arms for the data {', '.join(strange)}; there are arms for {', '.join(sorted(known))}")
    twice = [key for key, count in Counter((arm.data, arm.name) for arm in arms).items() if count > 1]
    if twice:
        raise InputError(f"{path}: {twice[0][0]} has two arms {twice[0][1]!r}; give each a name of its own")
    names = {arm.name for arm in arms}
    chosen = [
        arm
        for arm in arms
        if (not sets or arm.data in sets)
        and (not methods or any(one == arm.name if one in names else one in arm.kinds() for one in methods))
    ]
    if not chosen:
        raise InputError(f"no arm of that name: {', '.join(methods)}; `edgekd methods bench --list` shows them")
    return chosen


def run_bench(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    *,
    epochs: int | None = None,
    folder: Path | None = None,
    threads: int = 1,
    say: Callable[[str], None] = lambda message: None,
    progress: Progress | None = None,
) -> list[Table]:
    """Train all arms with all seeds, and the arm without distillation; return a table for each experiment.

    Args:
        arms: what to try.
        seeds: of the student's first weights, the order of the samples and, where there is a choice, which are labelled.
        epochs: in place of the experiment's own number.
        folder: keeps teachers and every run's score, and goes on from there.
        threads: of torch.
        say: is told what goes on.
        progress: shows a bar over all runs.

    Raises:
        InputError: there are fewer than two seeds, or the data or a teacher are not at hand.
    """
    if len(seeds) < 2:
        raise InputError("pairs of runs are compared: give two seeds at least")
    torch.set_num_threads(threads)
    tables = []
    for name in dict.fromkeys(arm.data for arm in arms):
        here = experiment(name)
        mine = [arm for arm in arms if arm.data == name]
        bench = Bench(here, epochs or here.settings.epochs, folder, threads, say)
        opened = (
            progress(f"bench {name}", (len(mine) + 1) * len(seeds)) if progress else nullcontext(lambda steps: None)
        )
        with opened as advance:
            tables.append(bench.table(mine, seeds, advance))
    return tables


@dataclass
class Bench:
    """The runs of one experiment: `folder` keeps teachers and scores; None keeps nothing."""

    experiment: Experiment
    epochs: int
    folder: Path | None = None
    threads: int = 1
    say: Callable[[str], None] = lambda message: None
    _teachers: dict[str, nn.Module] = field(default_factory=dict)

    def table(self, arms: Sequence[Arm], seeds: Sequence[int], advance: Callable[[int], None]) -> Table:
        """Run everything and compare."""
        scores: dict[str, list[float]] = {}
        work: dict[str, list[float]] = {}
        problems: dict[str, str] = {}
        for arm in [Arm(self.experiment.name, NONE, TASK_ONLY), *arms]:
            for seed in seeds:
                if arm.name not in problems:
                    try:
                        score, notes = self._score(arm, seed)
                        scores.setdefault(arm.name, []).append(score)
                        work.setdefault(arm.name, []).extend(one["share"] for one in notes.get("teachers", {}).values())
                        self.say(f"{arm.data}: {arm.name}, seed {seed}: {scores[arm.name][-1]:.2f}")
                    except EdgekdError as error:
                        problems[arm.name] = str(error)
                        self.say(f"{arm.data}: {arm.name}: failed: {error}")
                advance(1)
        against = compared(
            {name: found for name, found in scores.items() if name != NONE and name not in problems},
            scores[NONE],
            higher_is_better=self.experiment.metric.higher_is_better,
        )
        rows = tuple(
            Row(
                name,
                tuple(scores.get(name, ())),
                against.get(name),
                problems.get(name),
                float(np.mean(work[name])) if work.get(name) else None,
            )
            for name in dict.fromkeys([NONE, *(arm.name for arm in arms)])
        )
        teachers = {name: self.judge(self.teacher(name), self._view(name)) for name in self.experiment.teachers}
        return Table(self.experiment, self.epochs, tuple(seeds), teachers, rows)

    def _score(self, arm: Arm, seed: int) -> tuple[float, dict[str, Any]]:
        """Return the score of one run and the notes of its training, from the folder where they are there."""
        path = self._path(arm, seed)
        if path is not None and path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            return float(kept["score"]), kept["notes"]
        student, notes = self.train(arm, seed)
        score = self.judge(student, self.experiment.evaluation)
        if path is not None:
            write_json(path, {"arm": arm.name, "seed": seed, "score": score, "notes": notes})
        return score, notes

    def _path(self, arm: Arm, seed: int) -> Path | None:
        """Return where a run is kept, by all that decides it; None without a folder."""
        if self.folder is None:
            return None
        phase = [arm.phase.model_dump(mode="json"), arm.phase.file_hashes()]
        key = digest([self._common, phase, self.epochs * arm.longer, dict(arm.training), seed])
        return self.folder / self.experiment.name / f"{_plain(arm.name)}-{seed}-{key[:12]}.json"

    @cached_property
    def _common(self) -> list[Any]:
        """Return what decides all runs: settings, data, teachers, threads and the software."""
        here = self.experiment
        teachers = {name: network_digest(self.teacher(name)) for name in here.teachers}
        return [here.settings.model_dump(), here.evaluation.dataset.digest(), teachers, self.threads, code_version()]

    def train(self, arm: Arm, seed: int) -> tuple[nn.Module, dict[str, Any]]:
        """Return a student trained by an arm, and the notes of its training."""
        here = self.experiment
        part = here.part(seed)
        torch.manual_seed(seed)
        student = here.student()
        settings = here.settings.model_copy(update={**arm.training, "epochs": self.epochs * arm.longer})
        material = Material(
            part=part,
            augmentations=part.dataset.augmentations if here.augmented else (),
            teachers=self._live() if arm.phase.needs & {"teacher", "features"} else {},
            teacher_part=here.teacher_part(seed) if here.teacher_part is not None and arm.name != NONE else None,
        )
        history = train(student, (arm.phase,), material, settings, self._context(part, seed), arm.name)
        return student, history.to_notes()

    def _live(self) -> dict[str, Teacher]:
        made: dict[str, Teacher] = {}
        for name, recipe in self.experiment.teachers.items():
            made[name] = LiveTeacher(name, self.teacher(name), name, recipe.signature)
        return made

    def teacher(self, name: str) -> nn.Module:
        """Return a teacher's network: opened, kept in the folder, or trained now with seed 1000."""
        if name in self._teachers:
            return self._teachers[name]
        recipe: TeacherRecipe = self.experiment.teachers[name]
        torch.manual_seed(1000)
        network = recipe.network()
        if recipe.part is not None and recipe.settings is not None:
            data = [recipe.part.dataset.digest(), recipe.part.indices.tolist()]
            key = digest([recipe.settings.model_dump(), data, str(network), code_version()])
            path = None if self.folder is None else self.folder / self.experiment.name / f"teacher-{name}-{key[:12]}.pt"
            if path is not None and path.is_file():
                network.load_state_dict(torch.load(path, weights_only=True))
            else:
                self.say(f"{self.experiment.name}: train the teacher {name}")
                context = self._context(recipe.part, 1000)
                train(network, (TASK_ONLY,), Material(recipe.part), recipe.settings, context, f"teacher {name}")
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    torch.save(network.state_dict(), path)
        if recipe.change is not None:
            network = recipe.change(network)
        self._teachers[name] = network.eval()
        return network

    def _view(self, name: str) -> Part:
        """Return the held-out samples as a teacher sees them."""
        recipe, evaluation = self.experiment.teachers[name], self.experiment.evaluation
        if recipe.signature.inputs == evaluation.signature.inputs or recipe.part is None:
            return evaluation
        data = recipe.part.dataset
        assert data.held_out is not None
        return Part(data, np.flatnonzero(data.held_out), recipe.signature)

    def judge(self, network: nn.Module, part: Part) -> float:
        """Return a network's score on a part."""
        outputs = _outputs(network.eval(), part)
        return judge_outputs({"output": outputs}, None, part, self.experiment.metric)

    def _context(self, part: Part, seed: int) -> Context:
        return training_context(part, self.experiment.evaluation, self.experiment.metric, seed, threads=self.threads)


@torch.no_grad()
def _outputs(network: nn.Module, part: Part) -> np.ndarray[Any, Any]:
    collected = []
    for arrays in part.batches(500):
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        first: Tensor = next(iter(run_network(network, inputs).values()))
        collected.append(first.float().numpy())
    return np.concatenate(collected)


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)
