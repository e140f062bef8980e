"""What is launched: a model file with the inputs of one call, opened by nobody yet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..feeds import batch_of, batch_size
from ..manifest import read_manifest, verify_files
from ..selfcheck import read_samples

_NOT_THE_MODEL = ("run.pyz",)


@dataclass(frozen=True)
class Subject:
    """A model file, what it is about, and one call's inputs.

    `bytes` is the size of all files that the model consists of. `folder` is that of the artifact, None for a file without one.
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

    @property
    def batch(self) -> int:
        """Return the samples of a call."""
        return batch_size(self.feeds)

    def to_dict(self) -> dict[str, Any]:
        """Return what a result says of it."""
        names = ("name", "precision", "target", "runtime", "sha256", "bytes", "batch")
        return {name: getattr(self, name) for name in names}


def subject_of(folder: Path, batch: int | None = None, runtime: str | None = None) -> Subject:
    """Check an artifact folder and return its model, with self-check samples as inputs.

    Raises:
        DeviceError: The folder or the manifest cannot be read, or the batch does not fit.
        CheckFailed: A file is not the one that was exported.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    samples = manifest.selfcheck.file
    return Subject(
        name=manifest.name,
        precision=manifest.precision,
        target=manifest.target,
        runtime=runtime or manifest.runtime,
        file=folder / manifest.model_file,
        folder=folder,
        sha256=manifest.files[manifest.model_file].sha256,
        bytes=sum(entry.bytes for name, entry in manifest.files.items() if name not in (samples, *_NOT_THE_MODEL)),
        feeds=batch_of(read_samples(folder / samples, manifest).inputs, manifest, batch),
    )
