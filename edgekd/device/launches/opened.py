"""A model that a runtime has opened, in the process that measures it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifact import open_artifact
from ..manifest import Manifest
from ..runtimes import open_timed
from ..runtimes.session import Session


@dataclass(frozen=True)
class Opened:
    """A model, its file, and how long the runtime took to open it, its import left out; a file without an artifact has no manifest."""

    runtime: str
    file: Path
    session: Session
    load_ms: float
    manifest: Manifest | None = None


def open_model(model: Mapping[str, Any], threads: int) -> Opened:
    """Open a model of a job.

    Raises:
        DeviceError: The runtime is not known, or it cannot read the file.
        RuntimeMissing: It is not installed, or has the wrong version.
        CheckFailed: The artifact is damaged.
    """
    file = Path(model["file"])
    if model["folder"] is not None:
        artifact = open_artifact(Path(model["folder"]), threads, model["runtime"])
        return Opened(model["runtime"], file, artifact.session, artifact.load_ms, artifact.manifest)
    session, load_ms = open_timed(model["runtime"], file, threads)
    return Opened(model["runtime"], file, session, load_ms)
