from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekd.device.commands import _notes
from edgekd.device.latency import Latency
from edgekd.device.machine import read_machine
from edgekd.device.printing import as_json, profile_text


def test_notes_name_a_lasting_state_once_and_not_the_profiler_s_own_load(tmp_path: Path) -> None:
    quiet = replace(read_machine(tmp_path), cores=4)
    steady = Latency.from_samples(np.ones(100), steady=True)
    assert _notes(quiet, replace(quiet, load_1min=4.0), steady) == []
    busy = replace(quiet, pressure_cpu_percent=20.0)
    assert len(_notes(busy, replace(busy, pressure_cpu_percent=21.0), steady)) == 1


def test_notes_tell_of_unsettled_and_drifting_times(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    latency = Latency.from_samples(np.linspace(1.0, 2.0, 100), steady=False)
    settled, drifted = _notes(machine, machine, latency)
    assert "not settled" in settled and "slower" in drifted


def test_absent_figures_are_said_to_be_absent(tmp_path: Path) -> None:
    result = {
        "artifact": {"name": "m", "precision": "int8"},
        "session": {"runtime": "onnxruntime", "version": "1", "provider": "CPU", "threads": "1"},
        "batch": 1,
        "latency": Latency.from_samples([1.0, 2.0, 3.0]).to_dict(),
        "cold_start": {"load_ms": 1.0, "first_call_ms": 2.0},
        "peak_memory_mib": None,
        "warnings": ["busy"],
        "before": read_machine(tmp_path).to_dict(),
    }
    text = profile_text(result)
    assert text.count("not enough calls") == 3 and "not known here" in text and "no interval" in text
    assert "drift" not in text and text.endswith("warning: busy")


def test_json_has_null_for_numbers_that_are_not_finite() -> None:
    assert '"x": [\n    null,\n    1.0\n  ]' in as_json({"x": (float("nan"), 1.0)})
