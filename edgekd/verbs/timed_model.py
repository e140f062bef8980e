"""An artifact or ONNX file that is opened to be timed."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.device.arrays import Array
from edgekd.device.artifact import open_artifact
from edgekd.device.feeds import batch_of
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.device.selfcheck import read_samples
from edgekd.errors import InputError, StageError
from edgekd.verbs.artifact_path import artifact_folder


@dataclass(frozen=True)
class OpenedModel:
    """A model that can be called: its name and precision, the time its runtime took to open it, and one call's inputs."""

    name: str
    precision: str
    session: Session
    feeds: dict[str, Array]
    load_ms: float
    runtime: str
    file: Path


def identity_of(opened: OpenedModel) -> dict[str, Any]:
    """Return what a result says of a model: name, precision, and the session's runtime, version and threads."""
    return {"name": opened.name, "precision": opened.precision, "session": opened.session.describe()}


def refuse_emulation(emulated: bool) -> None:
    """Refuse to time anything on an emulated processor.

    Raises:
        StageError: it is one.
    """
    if emulated:
        raise StageError("this processor is emulated, where time is not latency: profile on the board itself")


def open_for_timing(path: Path, threads: int, batch: int | None) -> OpenedModel:
    """Open an artifact, a run's or an ONNX file in its runtime, with self-check samples or random ones as inputs.

    Raises:
        DeviceError: the runtime cannot open it, or the batch does not fit.
        InputError: it is neither.
    """
    if path.is_dir() or not path.exists():
        folder = artifact_folder(path)
        artifact = open_artifact(folder, threads)
        manifest = artifact.manifest
        samples = read_samples(folder / manifest.selfcheck.file, manifest)
        feeds = batch_of(samples.inputs, manifest, batch)
        return OpenedModel(
            manifest.name,
            manifest.precision,
            artifact.session,
            feeds,
            artifact.load_ms,
            manifest.runtime,
            folder / manifest.model_file,
        )
    return _open_onnx(path, threads, batch)


def _open_onnx(path: Path, threads: int, batch: int | None) -> OpenedModel:
    from edgekd.models.loading import detect_format, load_onnx
    from edgekd.models.onnx_graph import fixed_batch, graph_signature
    from edgekd.models.precision import precision_of

    kind = detect_format(path)
    if kind != "onnx":
        raise InputError(
            f"{path} is a PyTorch file ({kind}); what runs on the device is what is measured. Export it first: "
            f"edgekd export {path} --target generic-x86 -o OUT, then edgekd profile OUT"
        )
    graph = load_onnx(path)
    fixed = fixed_batch(graph)
    if fixed is not None and batch not in (None, fixed):
        raise InputError(f"{path} has a fixed batch of {fixed}: use --batch {fixed}")
    inputs = graph_signature(graph).random_inputs(fixed or batch or 1)
    started = time.perf_counter()
    session = open_session("onnxruntime", path, threads)
    load_ms = (time.perf_counter() - started) * 1e3
    feeds = {info.name: inputs[info.name].astype(info.dtype) for info in session.inputs}
    return OpenedModel(path.stem, precision_of(graph), session, feeds, load_ms, "onnxruntime", path)
