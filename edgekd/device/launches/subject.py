"""What is launched: a model file with the inputs of one call, opened by nobody yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..feeds import batch_of, batch_size, random_feeds, repeated, shapes_of
from ..manifest import read_manifest, verify_files
from ..runtimes.session import TensorInfo
from ..selfcheck import read_samples
from ..shapes import Shape

_NOT_THE_MODEL = ("run.pyz",)


@dataclass(frozen=True)
class Subject:
    """A model file, what it is about, and one call's inputs.

    `bytes` is the size of all files that the model consists of. `folder` is that of the artifact, None for a file without one.
    `batched` names the inputs whose batch is free.
    """

    name: str
    precision: str
    target: str | None
    runtime: str
    file: Path
    folder: Path | None
    sha256: str
    bytes: int
    feeds: dict[str, Array]
    batched: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Return the samples of a call."""
        return batch_size(self.feeds)

    def repeated(self, batch: int) -> dict[str, Array]:
        """Return the inputs of a call with so many samples.

        Raises:
            CheckFailed: They are too large for this machine.
        """
        return {name: repeated(array, batch) if name in self.batched else array for name, array in self.feeds.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return what a result says of it."""
        names = ("name", "precision", "target", "runtime", "sha256", "bytes", "batch")
        return {name: getattr(self, name) for name in names}


def subject_of(
    folder: Path, batch: int | None = None, runtime: str | None = None, shapes: Sequence[tuple[str, Shape]] = ()
) -> Subject:
    """Check an artifact folder and return its model, with self-check samples as inputs; random ones where a shape is given.

    Raises:
        DeviceError: The folder or the manifest cannot be read, or the batch or a shape does not fit.
        CheckFailed: A file is not the one that was exported.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    samples = manifest.selfcheck.file
    given = shapes_of(shapes, manifest.inputs, batch)
    feeds = batch_of(read_samples(folder / samples, manifest).inputs, manifest, batch)
    feeds |= random_feeds(
        TensorInfo(one.name, given[one.name], one.dtype) for one in manifest.inputs if one.name in given
    )
    return Subject(
        name=manifest.name,
        precision=manifest.precision,
        target=manifest.target,
        runtime=manifest.runtime if runtime is None else runtime,
        file=folder / manifest.model_file,
        folder=folder,
        sha256=manifest.files[manifest.model_file].sha256,
        bytes=sum(entry.bytes for name, entry in manifest.files.items() if name not in (samples, *_NOT_THE_MODEL)),
        feeds=feeds,
        batched=batched(manifest.inputs),
    )


def batched(inputs: Sequence[TensorInfo]) -> tuple[str, ...]:
    """Return the names of the inputs whose batch is free."""
    return tuple(info.name for info in inputs if info.shape and isinstance(info.shape[0], str))
