"""Open an artifact: nothing runs until hashes, versions and the model's signature are what the manifest states."""

import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import CheckFailed, RuntimeMissing
from .manifest import Manifest, read_manifest, verify_files
from .runtimes import open_timed, runtime_version
from .runtimes.session import Session, TensorInfo, same_signature
from .versions import satisfies


@dataclass(frozen=True)
class Artifact:
    """An opened artifact.

    `load_ms` is the time the runtime took to open the model: without importing the runtime, and with the file already
    in the page cache, for it has just been hashed.
    """

    folder: Path
    manifest: Manifest
    session: Session
    load_ms: float


def open_artifact(folder: Path, threads: int = 1, runtime: str | None = None) -> Artifact:
    """Check an artifact folder and open its model, in the runtime that it is for or in another one.

    Raises:
        DeviceError: The folder, the manifest or the model cannot be read.
        CheckFailed: A file is not the one that was exported, or the model is not the one described.
        RuntimeMissing: The runtime is missing or has the wrong version.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    if runtime in (None, manifest.runtime):
        check_versions(manifest)
    name = manifest.runtime if runtime is None else runtime
    session, load_ms = open_timed(name, folder / manifest.model_file, threads)
    for role, stated, found in (
        ("inputs", manifest.inputs, session.inputs),
        ("outputs", manifest.outputs, session.outputs),
    ):
        if not same_signature(_by_name(stated), _by_name(found)):
            raise CheckFailed(f"{manifest.model_file} has {role} {_shown(found)}, its manifest states {_shown(stated)}")
    return Artifact(folder, manifest, session, load_ms)


def check_versions(manifest: Manifest) -> None:
    """Hold the installed runtime, numpy and Python against the manifest.

    Raises:
        RuntimeMissing: One is missing or has the wrong version.
    """
    installed = {
        manifest.runtime: runtime_version(manifest.runtime),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    for name, wanted in manifest.versions.items():
        have = installed.get(name)
        if have is not None and not satisfies(have, wanted):
            advice = "use such a Python" if name == "python" else f"pip install '{name}{wanted}'"
            raise RuntimeMissing(f"{name} {have} is installed, this artifact needs {wanted}: {advice}")


def _by_name(tensors: list[TensorInfo] | tuple[TensorInfo, ...]) -> dict[str, TensorInfo]:
    return {info.name: info for info in tensors}


def _shown(tensors: list[TensorInfo] | tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"{info.name} {info.dtype}{list(info.shape)}" for info in tensors)
