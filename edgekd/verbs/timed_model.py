"""What is measured of an artifact or ONNX file, by a process of its own."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from edgekd.device.feeds import random_feeds, shapes_of
from edgekd.device.launches.subject import Subject, batched, subject_of
from edgekd.device.runtimes.session import TensorInfo
from edgekd.device.shapes import Shape
from edgekd.errors import InputError
from edgekd.files import sha256
from edgekd.verbs.artifact_path import artifact_folder

Shapes = Sequence[tuple[str, Shape]]


def launchable(
    path: Path, batch: int | None, runtime: str | None = None, seed: int = 0, shapes: Shapes = ()
) -> Subject:
    """Return what a process of its own can measure of an artifact, a run's or an ONNX file.

    It runs in the artifact's own runtime, an ONNX file in ONNX Runtime, or in the one that is named. Inputs are self-check samples
    or random.

    Args:
        path: Of the artifact, the run or the file.
        batch: Samples a call; None is the model's own, or 1.
        runtime: Another one than the file is for.
        seed: Of random inputs.
        shapes: Of inputs, as `shapes.named_shape` reads them.

    Raises:
        DeviceError: the artifact cannot be read, or the batch or a shape does not fit.
        InputError: it is neither, or the model has no inputs.
        CheckFailed: the inputs are too large for this machine.
    """
    if path.is_dir() or not path.exists():
        return subject_of(artifact_folder(path), batch, runtime, shapes)
    from edgekd.models.loading import detect_format, load_onnx
    from edgekd.models.onnx_graph import external_files, fixed_batch, input_tensors
    from edgekd.models.precision import precision_of

    kind = detect_format(path)
    if kind != "onnx":
        raise InputError(
            f"{path} is a PyTorch file ({kind}); what runs on the device is what is measured. Export it first: "
            f"edgekd export {path} --target generic-x86 -o OUT, then edgekd profile OUT"
        )
    graph = load_onnx(path)
    inputs, fixed = input_tensors(graph), fixed_batch(graph)
    if not inputs:
        raise InputError(f"{path}: the model has no inputs, so there is no call to time")
    if not batched(inputs) and batch not in (None, fixed):
        raise InputError(f"{path} has a fixed batch of {fixed}: use --batch {fixed}")
    external = external_files(path)
    given = shapes_of(shapes, inputs, batch)
    sized = [_sized(info, batch or 1, given.get(info.name)) for info in inputs]
    return Subject(
        name=path.stem,
        precision=precision_of(graph),
        target=None,
        runtime="onnxruntime" if runtime is None else runtime,
        file=path,
        folder=None,
        sha256=_sha256_of_all(path, external),
        bytes=sum(file.stat().st_size for file in (path, *external)),
        feeds=random_feeds(sized, seed),
        batched=batched(inputs),
    )


def _sha256_of_all(path: Path, external: Sequence[Path]) -> str:
    """Return the file's SHA-256; with files of weights beside it that of their hashes, a line each, the file's own first."""
    if not external:
        return sha256(path)
    lines = "".join(f"{sha256(file)}\n" for file in (path, *external))
    return hashlib.sha256(lines.encode("ascii")).hexdigest()


def _sized(info: TensorInfo, batch: int, given: Shape | None) -> TensorInfo:
    """Return an input without free axes."""
    first = info.shape[0] if isinstance(info.shape[0], int) else batch
    shape: Sequence[int | str] = given or (first, *info.shape[1:])
    if any(isinstance(size, str) for size in shape):
        example = "x".join(str(size) if isinstance(size, int) else "224" for size in shape)
        raise InputError(
            f"{info.name!r} has shape {list(info.shape)}: say its size, such as --shape {info.name}={example}"
        )
    return TensorInfo(info.name, tuple(shape), info.dtype)
