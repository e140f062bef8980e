"""What `run` and `verify` do; each returns a dictionary that `printing.py` turns into text or JSON."""

from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array, write_arrays
from .artifact import Artifact, open_artifact
from .batches import run_all
from .feeds import read_feeds
from .machine import int8_isa
from .postprocessing import best_labels
from .selfcheck import Samples, check, read_samples


def run(folder: Path, input_file: Path | None, output_file: Path | None) -> dict[str, Any]:
    """Run the model on a file, or on the self-check samples; the output arrays may go to a `.npz` file."""
    artifact = open_artifact(folder)
    manifest = artifact.manifest
    feeds = _samples(artifact).inputs if input_file is None else read_feeds(input_file, manifest)
    outputs = run_all(artifact.session, feeds)
    if output_file is not None:
        write_arrays(output_file, outputs)
    return {
        "artifact": _identity(artifact),
        "outputs": {name: _summary(array) for name, array in outputs.items()},
        "best": best_labels(manifest.task, manifest.labels, outputs[manifest.outputs[0].name]),
    }


def verify(folder: Path) -> dict[str, Any]:
    """Check files, versions and signature, and run the self-check; `passed` and `failures` tell how it went."""
    artifact = open_artifact(folder)
    result = check(artifact.session, _samples(artifact), artifact.manifest)
    return {
        "artifact": _identity(artifact),
        **result.to_dict(),
        "int8_isa": int8_isa(),
        "session": artifact.session.describe(),
    }


def _samples(artifact: Artifact) -> Samples:
    return read_samples(artifact.folder / artifact.manifest.selfcheck.file, artifact.manifest)


def _identity(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "name": manifest.name,
        "target": manifest.target,
        "runtime": manifest.runtime,
        "precision": manifest.precision,
        "model_sha256": manifest.files[manifest.model_file].sha256,
    }


def _summary(array: Array) -> dict[str, Any]:
    numeric = array.size > 0 and np.issubdtype(array.dtype, np.number)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "min": float(array.min()) if numeric else None,
        "max": float(array.max()) if numeric else None,
    }
