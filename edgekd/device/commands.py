"""What `run` and `verify` do, in a process of its own that the model may take along; `printing.py` makes text or JSON of it."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array, read_arrays, write_arrays
from .artifact import open_artifact
from .batches import run_all
from .durations import LIMIT_S
from .feeds import read_feeds
from .launches.process import answer, feeds_of, run_apart
from .launches.subject import subject_of
from .machine import int8_isa
from .manifest import read_manifest
from .postprocessing import best_labels
from .selfcheck import check, read_samples

_OUTPUTS = "outputs.npz"


def run(folder: Path, input_file: Path | None, output_file: Path | None, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Run the model on a file, or on the self-check samples; the output arrays may go to a `.npz` file.

    Raises:
        DeviceError: The artifact or the file cannot be read, or the runtime refuses them.
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        CheckFailed: The artifact is damaged, or the model took its process along or longer than `limit_s`.
    """
    subject, manifest = subject_of(folder), read_manifest(folder)
    if input_file is None:
        feeds = read_samples(folder / manifest.selfcheck.file, manifest).inputs
    else:
        feeds = read_feeds(input_file, manifest)
    subject = replace(subject, feeds=feeds)
    with tempfile.TemporaryDirectory(prefix="edgekd-run-") as place:
        run_apart(__name__, {"candidate": subject}, {"selfcheck": False}, Path(place), limit_s=limit_s)
        outputs = read_arrays(Path(place) / _OUTPUTS)
    if output_file is not None:
        write_arrays(output_file, outputs)
    return {
        "artifact": subject.to_dict(),
        "outputs": {name: _summary(array) for name, array in outputs.items()},
        "best": best_labels(manifest.task, manifest.labels, outputs[manifest.outputs[0].name]),
    }


def verify(folder: Path, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Check files, versions and signature, and run the self-check; `passed` and `failures` tell how it went.

    Raises:
        DeviceError: The artifact cannot be read, or the runtime refuses it.
        RuntimeMissing: The runtime is not installed, or has the wrong version.
        CheckFailed: The artifact is damaged, or the model took its process along or longer than `limit_s`.
    """
    subject = subject_of(folder)
    with tempfile.TemporaryDirectory(prefix="edgekd-verify-") as place:
        found = run_apart(__name__, {"candidate": subject}, {"selfcheck": True}, Path(place), limit_s=limit_s)
    return {"artifact": subject.to_dict(), **found, "int8_isa": int8_isa()}


def main(folder: str) -> None:
    """Open the artifact of the job in the folder; run its self-check, or its inputs, whose outputs go into a file there."""

    def called(job: dict[str, Any], place: Path) -> dict[str, Any]:
        artifact = open_artifact(Path(job["models"]["candidate"]["folder"]))
        session, manifest = artifact.session, artifact.manifest
        if job["selfcheck"]:
            samples = read_samples(artifact.folder / manifest.selfcheck.file, manifest)
            return {**check(session, samples, manifest).to_dict(), "session": session.describe()}
        write_arrays(place / _OUTPUTS, run_all(session, feeds_of("candidate", place)))
        return {}

    answer(folder, called)


def _summary(array: Array) -> dict[str, Any]:
    numeric = array.size > 0 and np.issubdtype(array.dtype, np.number)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "min": float(array.min()) if numeric else None,
        "max": float(array.max()) if numeric else None,
    }
