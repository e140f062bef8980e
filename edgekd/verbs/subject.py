"""What a command judges: a model file, an ONNX file or an artifact, with the data that belong to it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgekd.data import Dataset, Part, load_dataset, split
from edgekd.data.fit import check_fit
from edgekd.device.artifact import open_artifact
from edgekd.device.manifest import Manifest
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError
from edgekd.evaluate import Outputs, run_module, run_session
from edgekd.host import runtime_here
from edgekd.metrics import Metric
from edgekd.models.signature import Preprocessing, Signature, TensorSpec
from edgekd.models.source import Opening, open_model, sidecar_data, sidecar_of
from edgekd.recipe import DataSettings
from edgekd.request import signature_of_data
from edgekd.run import MARKER
from edgekd.state import OnnxForm
from edgekd.verbs.artifact_path import artifact_folder, is_artifact

PartName = Literal["evaluation", "validation", "all"]


@dataclass(frozen=True)
class Subject:
    """What is scored: its data, as given or as its sidecar names them, its signature, and a function that runs a part through it."""

    name: str
    kind: str
    runs_in: str
    data: str | Path | None
    signature: Signature
    run: Callable[[Part], Outputs]
    file: Path | None = None  # of ONNX
    runtime: str = "onnxruntime"  # which runs the file here


def open_subject(model: Path, data: str | None, opening: Opening, threads: int) -> Subject:
    """Open a model file, an ONNX file, an artifact or a run; `data` is what decides the shape of images, if anything.

    Raises:
        InputError: it cannot be read.
    """
    if model.is_dir() and is_artifact(model):
        return _artifact(artifact_folder(model), threads)
    opened = open_model(model, opening, signature_of_data(data or sidecar_data(model, sidecar_of(model))))
    form = opened.state.form
    source = data or sidecar_data(model, opened.sidecar)
    if isinstance(form, OnnxForm):
        session = open_session("onnxruntime", form.path, threads)
        where = f"ONNX Runtime, {form.precision}"
        return Subject(
            opened.name,
            "ONNX",
            where,
            source,
            opened.state.signature,
            lambda part: run_session(session, part),
            form.path,
        )
    module = form.module
    where = f"torch, {form.precision}"
    return Subject(
        opened.name, opened.format, where, source, opened.state.signature, lambda part: run_module(module, part)
    )


def _artifact(folder: Path, threads: int) -> Subject:
    artifact = open_artifact(folder, threads)
    manifest = artifact.manifest
    where = f"{manifest.runtime}, {manifest.precision}"
    signature = _signature(manifest)
    raw = any(spec.dtype == "uint8" for spec in signature.inputs)

    def run(part: Part) -> Outputs:
        given = {name: array.dtype for name, array in part.dataset.inputs.items()}
        wrong = [name for name, dtype in given.items() if raw and dtype != np.uint8]
        if wrong:
            raise InputError(f"the artifact takes raw bytes (uint8), the data's {wrong[0]} is {given[wrong[0]]}")
        return run_session(artifact.session, part)

    return Subject(
        manifest.name,
        "artifact",
        where,
        None,
        signature,
        run,
        folder / manifest.model_file,
        runtime_here(manifest.runtime),
    )


def _signature(manifest: Manifest) -> Signature:
    """Return the signature that a manifest states."""
    made = manifest.preprocessing
    if made is not None and made.layout != "NCHW":
        raise InputError(f"the artifact takes images in the layout {made.layout}; `edgekd eval` gives NCHW")
    try:
        inputs, outputs = (
            tuple(TensorSpec(name=info.name, shape=("batch", *info.shape[1:]), dtype=info.dtype) for info in infos)  # type: ignore[arg-type]
            for infos in (manifest.inputs, manifest.outputs)
        )
        return Signature(
            inputs=inputs,
            outputs=outputs,
            preprocessing=None if made is None else Preprocessing(scale=made.scale, mean=made.mean, std=made.std),
            labels=manifest.labels,
            task=manifest.task,  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise InputError(
            f"manifest.json describes inputs or outputs that `edgekd eval` cannot feed: {error}"
        ) from error


def dataset_of(subject: Subject, data: str | None, cut: DataSettings) -> Dataset:
    """Return the given data as a subject sees them, or those that its sidecar names.

    Raises:
        InputError: neither are there, or they cannot be read.
    """
    source = data if data is not None else subject.data
    if source is None:
        raise InputError(
            f"no data: give --data (an image folder, .npz, set name or package.module:function); {subject.name} names none"
        )
    return load_dataset(source, subject.signature, limit=cut.limit)


def run_of(model: Path) -> Path | None:
    """Return the run directory that a path is or lies in, or None."""
    around = (model.resolve(), *model.resolve().parents[:3])
    return next((folder for folder in around if (folder / MARKER).is_file()), None)


def cut_of(run: Path | None) -> tuple[DataSettings, str]:
    """Return how a run cut its data, else the default; and in words whose cut it is."""
    if run is None:
        return DataSettings(), "the default settings"
    path = run / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        recipe = report.get("targets", [report])[0]["recipe"]
        return DataSettings.model_validate(recipe["data"]), str(path)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read how the run cut its data from {path}: {error}") from error


def part_of(dataset: Dataset, signature: Signature, name: PartName, cut: DataSettings) -> Part:
    """Return a part of the data: cut as the settings say, or everything."""
    if name == "all":
        check_fit(dataset, signature)
        return Part(dataset, np.arange(len(dataset)), signature)
    parts = split(dataset, signature, calibration=cut.calibration, validation=cut.validation, evaluation=cut.evaluation)
    return parts.evaluation if name == "evaluation" else parts.validation


def judgeable(part: Part, metric: Metric) -> Part:
    """Return the samples that a metric can judge: all by fidelity, else those that have a label.

    Raises:
        InputError: none has.
    """
    if metric.fidelity:
        return part
    chosen = part.with_labels()
    if not len(chosen):
        raise InputError(f"{part.dataset.origin}: no sample has a label, all targets are -1")
    return chosen
