"""A request: everything a person may ask for, read and checked before any work."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekd.budget import Budget
from edgekd.context import Context, Progress
from edgekd.data import Dataset, Part, Parts, load_dataset, split
from edgekd.data.calibration_sets import set_names, set_signature
from edgekd.data.fit import check_fit
from edgekd.data.sources import as_dataset
from edgekd.errors import InputError
from edgekd.evaluate import deciding_metric, one_class
from edgekd.metrics import Metric, choose_metric
from edgekd.models.signature import Sidecar, Signature, tensor_spec
from edgekd.models.source import Opened, Opening, open_model, sidecar_data, sidecar_of
from edgekd.recipe import Recipe, load_recipe
from edgekd.stages import KINDS, STAGES
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.state import OnnxForm
from edgekd.target import Target, load_target
from edgekd.teachers.opening import OpenedTeacher, TeacherSource, open_teachers


@contextlib.contextmanager
def silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show no progress."""
    yield lambda steps: None


@dataclass(frozen=True)
class Request:
    """Everything a person may ask for; the command line and Python fill the same one."""

    model: str | Path | nn.Module
    targets: tuple[str, ...]
    data: Any = None
    recipe: str | Path | Recipe | None = None
    output: Path | None = None
    runtime: str | None = None
    metric: str | None = None
    seed: int | None = None
    device: str = "auto"
    threads: int | None = None
    teacher: TeacherSource | Sequence[TeacherSource] | None = None
    teacher_factory: str | None = None
    teacher_cache: Path | None = None
    opening: Opening = Opening()
    budget: Budget | None = None
    resume: bool = True
    arms: bool = False
    say: Callable[[str], None] = field(default=lambda message: None)
    explain: Callable[[str], None] = field(default=lambda message: None)
    progress: Progress = silent


@dataclass(frozen=True)
class Prepared:
    """A request, read and checked: the model, the data, the recipe, and a context for each target."""

    request: Request
    opened: Opened
    recipe: Recipe
    dataset: Dataset
    data_name: str | None  # where the data lie, or the name of their set; None for data in memory or made by code
    teachers: Mapping[str, OpenedTeacher]
    contexts: tuple[Context, ...]
    remarks: tuple[str, ...]

    @property
    def budget(self) -> Budget:
        """Return the recipe's limits, each replaced by the one asked for where there is one."""
        asked = self.request.budget.model_dump(exclude_none=True) if self.request.budget else {}
        return self.recipe.budget.model_copy(update=asked)

    @property
    def directory(self) -> Path:
        """Return the run directory: the one asked for, else `edgekd-runs/<model>-<target>`."""
        names = "+".join(context.target.name for context in self.contexts)
        return self.request.output or Path("edgekd-runs") / f"{self.opened.name}-{names}"

    @cached_property
    def data_digest(self) -> str:
        """Return the hash of the data."""
        return self.dataset.digest()


def prepare(request: Request, *, trains: bool = False) -> Prepared:
    """Read and check everything a request names, before any work.

    With `trains` samples are left to train on even where no stage of the recipe does.

    Raises:
        InputError: anything in it is wrong.
    """
    targets, remarks = [], []
    for name in dict.fromkeys(request.targets):
        target, meaning = load_target(name)
        targets.append(target)
        remarks += [meaning] if meaning else []
    if request.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; use --device cpu, or install a CUDA build of torch")
    given = _given_recipe(request)
    named = _data_source(request, given, sidecar_of(request.model))
    opened = open_model(request.model, request.opening, signature_of_data(named))
    recipe = _resolved(given or _default_recipe(opened, targets[0]))
    if request.seed is not None:
        recipe = recipe.model_copy(update={"seed": request.seed})
    if isinstance(opened.state.form, OnnxForm) and request.recipe is None:
        remarks.append(f"an ONNX model can be quantized and exported only: recipe {recipe.name}")
    source = named if named is not None else _data_source(request, recipe, opened.sidecar)
    dataset = _dataset(source, request, recipe, opened)
    signature = opened.state.signature
    if signature.labels is None and dataset.labels is not None:
        signature = signature.model_copy(update={"labels": dataset.labels})
    opened = replace(opened, state=replace(opened.state, signature=signature))
    cut = recipe.data
    trains = trains or any(STAGES[type(settings)].learns(settings) for settings in recipe.stages)
    parts = split(
        dataset,
        signature,
        calibration=cut.calibration,
        validation=cut.validation,
        evaluation=cut.evaluation,
        largest_calibration=0.5 if trains else 1.0,
    )
    metric = choose_metric(
        request.metric or recipe.metric or signature.metric, signature.task, labelled=dataset.targets is not None
    )
    if metric.name == "auc" and one_class(parts.evaluation):
        raise InputError(
            f"{dataset.origin}: the evaluation part ({len(parts.evaluation)} samples) has normal or anomalous samples only, "
            "and the area under the curve needs both; give more data, or --metric sqnr"
        )
    remarks += _remarks(parts, metric, recipe, signature)
    teachers = open_teachers(
        request.teacher,
        opened.state.signature,
        trust=request.opening.trust,
        factory=request.teacher_factory,
        threads=request.threads or torch.get_num_threads(),
    )
    contexts = tuple(_context(request, recipe, target, opened, parts, metric, teachers) for target in targets)
    return Prepared(request, opened, recipe, dataset, _data_name(source), teachers, contexts, tuple(remarks))


def _given_recipe(request: Request) -> Recipe | None:
    if request.recipe is None or isinstance(request.recipe, Recipe):
        return request.recipe
    return load_recipe(request.recipe, KINDS)


def _default_recipe(opened: Opened, target: Target) -> Recipe:
    if opened.state.form.precision != "fp32":
        return load_recipe("export", KINDS)
    return load_recipe("quantize" if isinstance(opened.state.form, OnnxForm) else target.default_recipe, KINDS)


def _resolved(recipe: Recipe) -> Recipe:
    """Return the recipe with what its order decides: quantization is simulated where a later stage trains."""
    trained = max((number for number, one in enumerate(recipe.stages) if STAGES[type(one)].learns(one)), default=0)
    stages = (
        one.model_copy(update={"simulate": True}) if isinstance(one, QuantizeSettings) and number < trained else one
        for number, one in enumerate(recipe.stages)
    )
    return recipe.model_copy(update={"stages": tuple(stages)})


def _remarks(parts: Parts, metric: Metric, recipe: Recipe, signature: Signature) -> list[str]:
    """Return what a person should know about the data before any work."""
    remarks = []
    data, used = parts.train.dataset, len(parts.calibration)
    if used < recipe.data.calibration and len(parts.train):
        remarks.append(
            f"calibration takes {used:,} samples, not {recipe.data.calibration:,}: half of what validation and evaluation "
            "leave is for training"
        )
    raw = [
        spec.name
        for spec in signature.inputs
        if data.inputs[spec.name].dtype == np.uint8 and spec.dtype.startswith("float")
    ]
    if raw and signature.preprocessing is None:
        remarks.append(
            f"no preprocessing is known: the bytes of {', '.join(raw)} go in as they are, 0 to 255; "
            "if the network expects other values, set [preprocessing] in its model.toml"
        )
    decides = deciding_metric(metric, parts.validation)
    if decides is not metric:
        remarks.append(
            f"the validation part has normal or anomalous samples only: {decides.name} decides there in place of "
            f"{metric.name}"
        )
    return remarks


def signature_of_data(data: Any) -> Signature | None:
    """Return the signature that the data suggest: of a calibration set, or of arrays in memory."""
    if isinstance(data, str) and data in set_names():
        return set_signature(data)
    if isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape"):
        return Signature(
            inputs=(tensor_spec("input", [int(size) for size in data[0].shape[1:]], "float32", "the data"),)
        )
    if isinstance(data, Dataset):
        specs = (tensor_spec(name, array.shape[1:], "float32", "the data") for name, array in data.inputs.items())
        return Signature(inputs=tuple(specs))
    return None


def _data_source(request: Request, recipe: Recipe | None, sidecar: Sidecar) -> Any:
    """Return the data as asked for, else the recipe's, else the sidecar's (beside the model, or a name), or None."""
    if request.data is not None:
        return request.data
    if recipe is not None and recipe.data.source is not None:
        return recipe.data.source
    return sidecar_data(request.model, sidecar)


def _dataset(data: Any, request: Request, recipe: Recipe, opened: Opened) -> Dataset:
    signature, sidecar = opened.state.signature, opened.sidecar
    if data is None:
        raise InputError(
            "no data: give --data (an image folder, .npz, set name or package.module:function), or name them in model.toml; "
            "calibration data are never invented"
        )
    if isinstance(data, (str, Path)):
        dataset = load_dataset(data, signature, limit=recipe.data.limit)
    else:
        dataset = as_dataset(data, signature)
    own = None if sidecar.wrong_data else sidecar_data(request.model, sidecar)
    if own is not None and isinstance(data, (str, Path)) and data == own:
        dataset = replace(
            dataset,
            provenance=sidecar.data_origin or dataset.provenance,
            licence=sidecar.data_licence or dataset.licence,
        )
    if recipe.data.augmentations is not None:
        dataset = replace(dataset, augmentations=recipe.data.augmentations)
    return dataset


def _data_name(source: Any) -> str | None:
    if not isinstance(source, (str, Path)):
        return None
    if Path(source).exists():
        return str(Path(source).resolve())
    return str(source) if str(source) in set_names() else None


def _other_parts(recipe: Recipe, opened: Opened) -> Callable[[str, Signature | None], Part]:
    """Return what opens further data, all of them for training; each source once."""
    known: dict[tuple[str, Signature], Part] = {}

    def open_part(source: str, signature: Signature | None) -> Part:
        wanted = signature or opened.state.signature
        if (source, wanted) not in known:
            dataset = load_dataset(source, wanted, limit=recipe.data.limit)
            check_fit(dataset, wanted)
            known[source, wanted] = Part(dataset, np.arange(len(dataset)), wanted)
        return known[source, wanted]

    return open_part


def _context(
    request: Request,
    recipe: Recipe,
    target: Target,
    opened: Opened,
    parts: Parts,
    metric: Metric,
    teachers: Mapping[str, OpenedTeacher],
) -> Context:
    runtime = request.runtime or target.default_runtime
    if runtime not in target.runtime:
        raise InputError(f"{target.name} has no runtime {runtime!r}; it has {', '.join(target.runtime)}")
    threads = request.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    return Context(
        target=target,
        runtime_name=runtime,
        signature=opened.state.signature,
        parts=parts,
        metric=metric,
        teachers={name: teacher.make for name, teacher in teachers.items()},
        reference=None if isinstance(opened.state.form, OnnxForm) else opened.state.form.base.build,
        other_part=_other_parts(recipe, opened),
        seed=recipe.seed,
        device=request.device,
        threads=threads,
        workdir=Path(),
        log=request.say,
        progress=request.progress,
    )
