from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.instructions.absent import AbsentCounter
from edgekd.device.instructions.instruction_clock import InstructionClock
from edgekd.device.latency import Latency
from edgekd.device.launches.opened import Opened
from edgekd.device.machine import read_machine
from edgekd.device.printing import as_json, profile_text
from edgekd.device.profile import ProfileSettings, notes_on, profile_opened
from edgekd.device.runtimes import open_session
from edgekd.device.sensors.sensor import PowerSensor

QUIET = {"waited_percent": 0.1, "pressure_percent": None, "stolen_percent": 0.0, "throttled": ()}


def test_notes_name_a_lasting_state_once_and_not_the_profiler_s_own_load(tmp_path: Path) -> None:
    quiet = replace(read_machine(tmp_path), cores=4)
    steady = Latency.from_samples(np.ones(100), steady=True)
    assert notes_on(quiet, replace(quiet, load_1min=4.0), steady, QUIET, threads=4) == []
    hot = replace(quiet, throttled=("throttled",))
    assert len(notes_on(hot, hot, steady, QUIET)) == 1
    busy = replace(quiet, pressure_cpu_percent=20.0)
    assert "competes" in notes_on(busy, busy, steady, QUIET)[0]


def test_notes_tell_of_what_came_while_it_measured_and_of_too_many_threads(tmp_path: Path) -> None:
    quiet = replace(read_machine(tmp_path), cores=4)
    steady = Latency.from_samples(np.ones(100), steady=True)
    threads, disturbed = notes_on(quiet, quiet, steady, QUIET | {"waited_percent": 30.0}, threads=5)
    assert "5 threads share 4 core" in threads and "it waited for a core 30 % of the time" in disturbed


def test_notes_tell_of_unsettled_and_drifting_times(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    latency = Latency.from_samples(np.linspace(1.0, 2.0, 100), steady=False)
    settled, drifted = notes_on(machine, machine, latency, QUIET)
    assert "not settled" in settled and "slower" in drifted


def test_absent_figures_are_said_to_be_absent(tmp_path: Path) -> None:
    result = {
        "artifact": {"name": "m", "precision": "int8"},
        "session": {"runtime": "onnxruntime", "version": "1", "provider": "CPU", "threads": "1"},
        "batch": 1,
        "latency": Latency.from_samples([1.0, 2.0, 3.0]).to_dict(),
        "inside_runtime": None,
        "frames_per_second": 500.0,
        "end_to_end": None,
        "end_to_end_absent": "the model's preprocessing is not known",
        "instructions": None,
        "instructions_absent": "instructions are not counted: not asked for",
        "throughput": None,
        "throughput_absent": "the model was exported with a fixed batch",
        "layers_absent": "not asked for: --layers",
        "sustained_absent": "not asked for: --sustained",
        "cold_start": {"load_ms": 1.0, "first_call_ms": 2.0},
        "peak_memory_mib": None,
        "energy": None,
        "layers": None,
        "sustained": None,
        "energy_absent": "no RAPL counter",
        "warnings": ["busy"],
        "before": read_machine(tmp_path).to_dict(),
    }
    text = profile_text(result)
    assert text.count("not enough calls") == 3 and "not known here" in text and "no interval" in text
    assert "energy        no RAPL counter" in text
    assert "end to end    the model's preprocessing is not known" in text
    assert "instructions  not counted: not asked for" in text and "--layers" not in text and "--sustained" not in text
    assert "throughput    the model was exported with a fixed batch" in text
    assert "drift" not in text and text.endswith("warning: busy")
    ends = {"above_idle_low_mj": 0.4, "above_idle_high_mj": 0.6}
    energy = {"total_mj": 2.0, "total_low_mj": 1.9, "total_high_mj": 2.1, "above_idle_mj": 0.5, **ends}
    told = {**energy, "busy_w": 3.0, "idle_w": 2.0, "covers": "the board", "sensor": "meter"}
    assert "2 mJ (1.9 to 2.1 mJ) a call, 0.5 mJ (0.4 to 0.6 mJ) above idle" in profile_text({**result, "energy": told})
    lost = profile_text({**result, "energy": {**told, "above_idle_mj": -0.1, "above_idle_low_mj": -0.8}})
    assert "a call, not distinguishable from rest (-0.8 to 0.6 mJ); the board" in lost and "above idle" not in lost


def test_json_has_null_for_numbers_that_are_not_finite() -> None:
    assert '"x": [\n    null,\n    1.0\n  ]' in as_json({"x": (float("nan"), 1.0)})


class Steady(PowerSensor):
    """A board that takes 3 W, until it is pulled out after so many readings."""

    name, covers, interval_s = "steady", "the board", 0.05

    def __init__(self, lasts: float = np.inf) -> None:
        self.readings, self.lasts = 0, lasts

    def power_w(self) -> float:
        self.readings += 1
        if self.readings > self.lasts:
            raise CheckFailed("the sensor was pulled out")
        return 3.0


def test_a_sensor_gives_the_energy_of_a_call_and_a_broken_one_the_reason(artifact: Path) -> None:
    path = artifact / "model.onnx"
    feeds = {"image": np.zeros((1, 1, 8, 8), np.float32)}
    opened = Opened("onnxruntime", path, open_session("onnxruntime", path), load_ms=1.0)
    settings = ProfileSettings(duration_s=0.2, sustained_s=0.2)
    counter = AbsentCounter("not asked for")
    found, broken = (
        profile_opened(opened, feeds, read_machine(), sensor, counter, settings)
        for sensor in (Steady(), Steady(lasts=3))
    )
    energy = found["energy"]
    assert energy["busy_w"] == pytest.approx(3.0) and energy["above_idle_mj"] == pytest.approx(0.0, abs=1e-9)
    assert energy["total_mj"] > 0  # the sum is tested in test_energy.py, by a clock of its own
    assert broken["energy"] is None and "pulled out" in broken["energy_absent"] and broken["latency"]["n"] > 0
    without_batches = {"throughput": None, "throughput_absent": "not asked for: --throughput"}
    lines = profile_text({"artifact": {"name": "m", "precision": "fp32"}, **without_batches, **found})
    assert "in the steady state" in lines and "CPU time" in lines
    assert lines.count("    to ") == len(found["sustained"]["windows"]) > 1
    assert "mJ" in lines and "the board, by steady: 3 W, 3 W at rest" in lines


def test_where_the_clock_counts_instructions_nothing_else_is_told(artifact: Path) -> None:
    path = artifact / "model.onnx"
    feeds = {"image": np.zeros((1, 1, 8, 8), np.float32)}
    opened = Opened("onnxruntime", path, open_session("onnxruntime", path), load_ms=1.0)
    found = profile_opened(opened, feeds, read_machine(), Steady(), InstructionClock(), ProfileSettings(duration_s=0.2))
    assert found["latency"] is None and found["energy"] is None and found["instructions"]["how"] == "emulated"
    text = profile_text({"artifact": {"name": "m", "precision": "fp32"}, **found})
    assert "no time here is latency" in text and " ms" not in text
