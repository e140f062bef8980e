"""An artifact or ONNX file that is opened to be timed."""

import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekd.device.artifact import open_artifact
from edgekd.device.commands import opened_from
from edgekd.device.launches.subject import Subject, subject_of
from edgekd.device.profile import Opened
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError
from edgekd.files import sha256
from edgekd.verbs.artifact_path import artifact_folder


def identity_of(opened: Opened) -> dict[str, Any]:
    """Return what a result says of a model: name, precision, hash of the file, and the session's runtime, version and threads."""
    return {
        "name": opened.name,
        "precision": opened.precision,
        "model_sha256": sha256(opened.file),
        "session": opened.session.describe(),
    }


def open_for_timing(path: Path, threads: int, batch: int | None, runtime: str | None = None) -> Opened:
    """Open an artifact, a run's or an ONNX file, with self-check samples or random ones as inputs.

    It is opened in the artifact's own runtime, an ONNX file in ONNX Runtime, or in the one that is named.

    Raises:
        DeviceError: the runtime cannot open it, or the batch does not fit.
        InputError: it is neither.
    """
    if path.is_dir() or not path.exists():
        return opened_from(open_artifact(artifact_folder(path), threads, runtime), batch)
    return _open_onnx(path, threads, batch, runtime or "onnxruntime")


def _open_onnx(path: Path, threads: int, batch: int | None, runtime: str) -> Opened:
    precision, inputs = _read_onnx(path, batch)
    started = time.perf_counter()
    session = open_session(runtime, path, threads)
    load_ms = (time.perf_counter() - started) * 1e3
    feeds = {info.name: inputs[info.name].astype(info.dtype) for info in session.inputs}
    return Opened(path.stem, precision, runtime, path, session, feeds, load_ms)


def _read_onnx(path: Path, batch: int | None, seed: int = 0) -> tuple[str, dict[str, NDArray[Any]]]:
    """Return an ONNX file's precision and random inputs of one call, without a runtime.

    Raises:
        InputError: it is no ONNX file, or the batch does not fit.
    """
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
    return precision_of(graph), graph_signature(graph).random_inputs(fixed or batch or 1, seed)


def launchable(path: Path, batch: int | None, runtime: str | None = None, seed: int = 0) -> Subject:
    """Return what a process of its own can measure of an artifact, a run's or an ONNX file.

    Raises:
        DeviceError: the artifact cannot be read, or the batch does not fit.
        InputError: it is neither.
    """
    if path.is_dir() or not path.exists():
        return subject_of(artifact_folder(path), batch, runtime)
    from edgekd.models.onnx_graph import external_files

    precision, feeds = _read_onnx(path, batch, seed)
    size = sum(file.stat().st_size for file in (path, *external_files(path)))
    return Subject(path.stem, precision, None, runtime or "onnxruntime", path, None, sha256(path), size, feeds)
