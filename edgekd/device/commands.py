"""What `run`, `verify` and `profile` do; each returns a dictionary that `printing.py` turns into text or JSON."""

from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array, write_arrays
from .artifact import Artifact, open_artifact
from .batches import run_all
from .feeds import batch_of, read_feeds
from .imx500 import PACKED, profile_camera
from .instructions import find_counter
from .instructions.instruction_clock import InstructionClock
from .machine import int8_isa, read_machine, refuse_emulation
from .postprocessing import best_labels
from .profile import Opened, ProfileSettings, Say, profile_opened
from .selfcheck import Samples, check, read_samples
from .sensors import find_sensor


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


def profile(folder: Path, settings: ProfileSettings, say: Say = lambda message: None) -> dict[str, Any]:
    """Measure load time, first call, latency, peak memory, and what else the settings ask for.

    Raises:
        CheckFailed: The processor is emulated, where wall time is not latency.
        DeviceError: There is no sensor, counter or runtime of this name.
    """
    if folder.suffix == PACKED:
        return profile_camera(folder, settings.duration_s)
    before = read_machine()
    sensor, counter = find_sensor(settings.sensor), find_counter(settings.counter)
    if not isinstance(counter, InstructionClock):
        refuse_emulation(before)
    artifact = open_artifact(folder, settings.threads, settings.runtime)
    return {
        "artifact": _identity(artifact),
        **profile_opened(opened_from(artifact, settings.batch), before, sensor, counter, settings, say),
    }


def opened_from(artifact: Artifact, batch: int | None) -> Opened:
    """Return what is timed of an artifact: a call with so many of its self-check samples.

    Raises:
        DeviceError: The batch does not fit.
    """
    manifest = artifact.manifest
    feeds = batch_of(_samples(artifact).inputs, manifest, batch)
    file = artifact.folder / manifest.model_file
    runtime = artifact.session.describe()["runtime"]
    return Opened(manifest.name, manifest.precision, runtime, file, artifact.session, feeds, artifact.load_ms, manifest)


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
