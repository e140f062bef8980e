"""The latency of an artifact or ONNX file on this machine, alone or against another one."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.device.arrays import Array
from edgekd.device.artifact import open_artifact
from edgekd.device.commands import profile_session
from edgekd.device.comparison import compare
from edgekd.device.feeds import batch_of
from edgekd.device.machine import read_machine, warnings
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.device.selfcheck import read_samples
from edgekd.device.sensors import find_sensor
from edgekd.errors import InputError, StageError, device_errors_as
from edgekd.verbs.artifact_path import artifact_folder


@dataclass(frozen=True)
class _Opened:
    """A model that can be called: its name and precision, the time its runtime took to open it, and one call's inputs."""

    name: str
    precision: str
    session: Session
    feeds: dict[str, Array]
    load_ms: float


@device_errors_as(InputError)
def profile(
    path: Path, *, duration_s: float = 10.0, threads: int = 1, batch: int | None = None, sensor: str = "auto"
) -> dict[str, Any]:
    """Measure load time, first call, latency and energy of an artifact (or a run's) or an ONNX file.

    The peak memory is None: this process holds edgekd as well, `run.pyz profile` holds only the runtime.

    Raises:
        InputError: it is neither, the batch does not fit, or there is no sensor of this name.
        StageError: the processor is emulated, where wall time is not latency.
    """
    before = read_machine()
    _refuse_emulation(before.emulated)
    meter = find_sensor(sensor)
    opened = _open(path, threads, batch)
    measured = profile_session(opened.session, opened.feeds, before, opened.load_ms, duration_s, meter)
    return {"artifact": _identity(opened), **measured, "peak_memory_mib": None}


@device_errors_as(InputError)
def profile_against(
    path: Path, other: Path, *, duration_s: float = 10.0, threads: int = 1, batch: int | None = None
) -> dict[str, Any]:
    """Measure two in interleaved blocks; the speed-up above 1 says that the first one is faster.

    Raises:
        InputError: one is neither an artifact nor an ONNX file, or the batch does not fit.
        StageError: the processor is emulated, where wall time is not latency.
    """
    before = read_machine()
    _refuse_emulation(before.emulated)
    one, two = _open(path, threads, batch), _open(other, threads, batch)
    sizes = [int(next(iter(opened.feeds.values())).shape[0]) for opened in (one, two)]
    if sizes[0] != sizes[1]:
        raise InputError(f"{path} takes {sizes[0]} sample(s) a call, {other} takes {sizes[1]}: a ratio means nothing")
    result = compare(
        lambda: two.session.run(two.feeds), lambda: one.session.run(one.feeds), blocks=10_000, duration_s=duration_s
    )
    return {
        "candidate": {**_identity(one), "path": str(path)},
        "baseline": {**_identity(two), "path": str(other)},
        "batch": sizes[0],
        "comparison": result.to_dict(),
        "warnings": warnings(before),
        "before": before.to_dict(),
    }


def _identity(opened: _Opened) -> dict[str, Any]:
    return {"name": opened.name, "precision": opened.precision, "session": opened.session.describe()}


def _refuse_emulation(emulated: bool) -> None:
    if emulated:
        raise StageError("this processor is emulated, where time is not latency: profile on the board itself")


def _open(path: Path, threads: int, batch: int | None) -> _Opened:
    if path.is_dir() or not path.exists():
        folder = artifact_folder(path)
        artifact = open_artifact(folder, threads)
        manifest = artifact.manifest
        samples = read_samples(folder / manifest.selfcheck.file, manifest)
        feeds = batch_of(samples.inputs, manifest, batch)
        return _Opened(manifest.name, manifest.precision, artifact.session, feeds, artifact.load_ms)
    return _open_onnx(path, threads, batch)


def _open_onnx(path: Path, threads: int, batch: int | None) -> _Opened:
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
    return _Opened(path.stem, precision_of(graph), session, feeds, load_ms)
