"""What `run`, `verify` and `profile` do; each returns a dictionary that `printing.py` turns into text or JSON."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array, write_arrays
from .artifact import Artifact, open_artifact
from .batches import run_all
from .energy import measure_energy
from .errors import CheckFailed
from .feeds import batch_of, read_feeds
from .latency import Latency, measure
from .layers import profile_layers
from .machine import Machine, int8_isa, peak_memory_mib, read_machine, warnings
from .runtimes.session import Session
from .selfcheck import Samples, check, read_samples
from .sensors import find_sensor
from .sensors.sensor import Sensor

_BEST = 5
_DRIFT_PERCENT = 5.0


def run(folder: Path, input_file: Path | None, output_file: Path | None) -> dict[str, Any]:
    """Run the model on a file, or on the self-check samples; the output arrays may go to a `.npz` file."""
    artifact = open_artifact(folder)
    feeds = _samples(artifact).inputs if input_file is None else read_feeds(input_file, artifact.manifest)
    outputs = run_all(artifact.session, feeds)
    if output_file is not None:
        write_arrays(output_file, outputs)
    return {
        "artifact": _identity(artifact),
        "outputs": {name: _summary(array) for name, array in outputs.items()},
        "best": _best(artifact, outputs),
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


def profile(
    folder: Path, duration_s: float, threads: int, batch: int | None, sensor: str = "auto", layers: bool = False
) -> dict[str, Any]:
    """Measure load time, first call, latency, peak memory, and energy where there is a sensor.

    Raises:
        CheckFailed: The processor is emulated, where wall time is not latency.
        DeviceError: There is no sensor of this name.
    """
    meter = find_sensor(sensor)
    before = read_machine()
    if before.emulated:
        raise CheckFailed("this processor is emulated, where time is not latency: profile on the board itself")
    artifact = open_artifact(folder, threads)
    feeds = batch_of(_samples(artifact).inputs, artifact.manifest, batch)
    return {
        "artifact": _identity(artifact),
        **profile_session(artifact.session, feeds, before, artifact.load_ms, duration_s, meter),
        "layers": profile_layers(
            artifact.manifest.runtime, artifact.folder / artifact.manifest.model_file, feeds, threads
        )
        if layers
        else None,
    }


def profile_session(
    session: Session, feeds: dict[str, Array], before: Machine, load_ms: float, duration_s: float, sensor: Sensor
) -> dict[str, Any]:
    """Measure an opened model: first call, latency, peak memory and energy.

    Args:
        session: The model.
        feeds: One call's inputs.
        before: The machine before the model was opened.
        load_ms: What opening it took.
        duration_s: Longest time for the timed calls, and again for those whose energy is measured.
        sensor: What measures energy.
    """
    started = time.perf_counter()
    session.run(feeds)
    first_call_ms = (time.perf_counter() - started) * 1e3
    session.run(feeds)
    peak_mib = peak_memory_mib()
    latency = measure(lambda: session.run(feeds), duration_s=duration_s)
    after = read_machine()
    return {
        "session": session.describe(),
        "batch": int(next(iter(feeds.values())).shape[0]),
        "latency": latency.to_dict(),
        "cold_start": {"load_ms": load_ms, "first_call_ms": first_call_ms},
        "peak_memory_mib": peak_mib,
        **_energy(session, feeds, sensor, duration_s),
        "warnings": _notes(before, after, latency),
        "before": before.to_dict(),
        "after": after.to_dict(),
    }


def _energy(session: Session, feeds: dict[str, Array], sensor: Sensor, duration_s: float) -> dict[str, Any]:
    """Return `energy`, None where it could not be measured, and `energy_absent`, why."""
    try:
        found = measure_energy(lambda: session.run(feeds), sensor, duration_s=duration_s, idle_s=duration_s / 2)
    except CheckFailed as failure:
        return {"energy": None, "energy_absent": str(failure)}
    return {"energy": found.to_dict(), "energy_absent": None}


def _notes(before: Machine, after: Machine, latency: Latency) -> list[str]:
    """Return what makes this profile less trustworthy; a state that lasted is named once."""
    after = replace(after, load_1min=None)  # the profiler's own load
    notes = {note.partition(":")[0]: note for note in warnings(before) + warnings(after)}
    found = list(notes.values())
    if not latency.steady:
        found.append("the times had not settled when the warm-up ended")
    drift = latency.drift_percent
    if drift is not None and abs(drift) > _DRIFT_PERCENT:
        found.append(
            f"the calls became {abs(drift):.0f} % {'slower' if drift > 0 else 'faster'} during the measurement"
        )
    return found


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


def _best(artifact: Artifact, outputs: dict[str, Array]) -> list[list[dict[str, Any]]] | None:
    """Return the highest scores of each sample with their labels, as the model gives them; None without labels."""
    labels = artifact.manifest.labels
    scores = outputs[artifact.manifest.outputs[0].name]
    if artifact.manifest.task != "classification" or labels is None or scores.ndim != 2:
        return None
    if scores.shape[1] != len(labels):
        raise CheckFailed(f"the model gives {scores.shape[1]} scores, its manifest has {len(labels)} labels")
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :_BEST]
    return [
        [{"label": labels[index], "index": int(index), "score": float(row[index])} for index in best]
        for row, best in zip(scores, order, strict=True)
    ]
