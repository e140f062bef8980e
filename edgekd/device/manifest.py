"""`manifest.json`: what an artifact is. Written on the host and read on the board, by this file.

Nothing in a manifest is trusted: names stay inside the folder, and every file has the size and hash that it states.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import fields
from .errors import CheckFailed, DeviceError
from .fields import Fields
from .files import read_json, sha256_of, write_atomically
from .runtimes.session import TensorInfo

SCHEMA = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """Hash and size of one file of the artifact."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> "FileEntry":
        """Read hash and size off a file."""
        return cls(sha256_of(path), path.stat().st_size)


@dataclass(frozen=True)
class Preprocessing:
    """What turns a raw image into the model's first input: `(image * scale - mean) / std`.

    `mean` and `std` hold one value, or one a channel. `layout` is the model's, `NCHW` or `NHWC`. With `inside_model`
    the model does this itself and takes raw images.
    """

    layout: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    inside_model: bool


@dataclass(frozen=True)
class SelfCheckSpec:
    """The samples file and what the model must reach on it.

    `origin` says where the samples come from. `cosine` is the lowest mean cosine similarity, `agreement` the lowest
    share of equal argmaxes, None for a task without one.
    """

    file: str
    origin: str
    agreement: float | None
    cosine: float


@dataclass(frozen=True)
class Manifest:
    """One artifact.

    `edgekd` is the version that wrote it. `files` names every file of the folder but `manifest.json`. `versions` holds
    requirements such as `>=1.20`; those on the runtime, `numpy` and `python` are enforced.
    """

    edgekd: str
    name: str
    task: str
    labels: tuple[str, ...] | None
    target: str
    runtime: str
    precision: str
    model_file: str
    files: dict[str, FileEntry]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    preprocessing: Preprocessing | None
    selfcheck: SelfCheckSpec
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Any) -> "Manifest":
        """Check plain JSON and return the manifest.

        Raises:
            DeviceError: A field is missing, unknown or wrong; the message names it.
        """
        left = Fields(content, MANIFEST_NAME)
        if left.take("schema", fields.count) != SCHEMA:
            raise DeviceError(f"{MANIFEST_NAME} has schema {content['schema']}; this run.pyz reads schema {SCHEMA}")
        manifest = cls(
            edgekd=left.take("edgekd", fields.text),
            name=left.take("name", fields.text),
            task=left.take("task", fields.text),
            labels=left.take("labels", fields.optional(fields.list_of(fields.text))),
            target=left.take("target", fields.text),
            runtime=left.take("runtime", fields.text),
            precision=left.take("precision", fields.text),
            model_file=left.take("model_file", fields.file_name),
            files=left.take("files", _files),
            inputs=left.take("inputs", fields.list_of(_tensor)),
            outputs=left.take("outputs", fields.list_of(_tensor)),
            preprocessing=left.take("preprocessing", fields.optional(_preprocessing)),
            selfcheck=left.take("selfcheck", _selfcheck),
            versions=left.take("versions", _versions),
        )
        left.finish()
        for role, name in (("model_file", manifest.model_file), ("selfcheck: file", manifest.selfcheck.file)):
            if name not in manifest.files:
                raise DeviceError(f"{MANIFEST_NAME}: {role} {name!r} is not among its files")
        return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`. The files it names are checked by `verify_files`.

    Raises:
        DeviceError: It is missing or wrong.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DeviceError(f"{folder} {what}: an artifact folder is needed")
    missing = f"{folder} holds no {MANIFEST_NAME}: it is no artifact folder"
    return Manifest.from_dict(read_json(path, missing))


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write `manifest.json` atomically, after the checks that reading does, and return its path.

    Raises:
        DeviceError: The manifest could not be read back.
    """
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"
    Manifest.from_dict(json.loads(text))
    path = folder / MANIFEST_NAME
    write_atomically(path, text.encode("utf-8"))
    return path


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check size and hash of every file that the manifest names.

    Raises:
        DeviceError: A link leads out of the folder.
        CheckFailed: A file is missing or is not the one that was exported; the message names it.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            if path.resolve().parent != folder.resolve():
                raise DeviceError(f"{name} is a link that leads out of the artifact folder {folder}")
            if not path.is_file():
                raise CheckFailed(f"{name} is missing from {folder}: copy the whole artifact folder again")
            changed = path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            raise CheckFailed(f"cannot read {path}: {error}") from error
        if changed:
            raise CheckFailed(f"{name} in {folder} is not the file that was exported: copy the artifact folder again")


def refuse_own_file(path: Path, folder: Path) -> None:
    """Check that a result would not take the place of a file of the artifact.

    Raises:
        DeviceError: It would, or the manifest cannot be read.
    """
    for name in (MANIFEST_NAME, *read_manifest(folder).files):
        own = folder / name
        if path.resolve() == own.resolve() or (path.exists() and own.exists() and path.samefile(own)):
            raise DeviceError(f"cannot write {path}: it is the artifact's own {name}; name another file")


def _files(value: Any, where: str) -> dict[str, FileEntry]:
    entries = fields.mapping(value, where).items()
    return {fields.file_name(name, where): _file_entry(entry, f"{where}.{name}") for name, entry in entries}


def _file_entry(value: Any, where: str) -> FileEntry:
    left = Fields(value, where)
    entry = FileEntry(sha256=left.take("sha256", fields.sha256), bytes=left.take("bytes", fields.count))
    left.finish()
    return entry


def _tensor(value: Any, where: str) -> TensorInfo:
    left = Fields(value, where)
    info = TensorInfo(left.take("name", fields.text), left.take("shape", _shape), left.take("dtype", fields.text))
    left.finish()
    return info


def _shape(value: Any, where: str) -> tuple[int | str, ...]:
    if value == []:  # a scalar
        return ()
    return fields.list_of(lambda size, at: fields.text(size, at) if isinstance(size, str) else fields.count(size, at))(
        value, where
    )


def _preprocessing(value: Any, where: str) -> Preprocessing:
    left = Fields(value, where)
    preprocessing = Preprocessing(
        layout=left.take("layout", fields.one_of("NCHW", "NHWC")),
        scale=left.take("scale", fields.number),
        mean=left.take("mean", fields.list_of(fields.number)),
        std=left.take("std", fields.list_of(fields.number)),
        inside_model=left.take("inside_model", fields.flag),
    )
    left.finish()
    if len(preprocessing.mean) != len(preprocessing.std) or 0.0 in preprocessing.std:
        raise DeviceError(f"{where} needs as many std as mean values, none of the std 0")
    return preprocessing


def _selfcheck(value: Any, where: str) -> SelfCheckSpec:
    left = Fields(value, where)
    spec = SelfCheckSpec(
        file=left.take("file", fields.file_name),
        origin=left.take("origin", fields.text),
        agreement=left.take("agreement", fields.optional(fields.share)),
        cosine=left.take("cosine", fields.share),
    )
    left.finish()
    return spec


def _versions(value: Any, where: str) -> dict[str, str]:
    return {name: fields.text(wanted, f"{where}.{name}") for name, wanted in fields.mapping(value, where).items()}
