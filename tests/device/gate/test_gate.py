"""What is measured again, what fails, and what it exits with; launches are replaced, so that times are known."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.gate import rounds
from edgekd.device.gate.budget import Budget
from edgekd.device.gate.gate import gate, update_baseline
from edgekd.device.gate.outputs.github import annotations
from edgekd.device.gate.outputs.junit import junit
from edgekd.device.gate.rounds import GateSettings
from edgekd.device.launches.launcher import Launch
from edgekd.device.launches.subject import Subject, subject_of
from edgekd.device.machine import read_machine

SETTINGS = GateSettings(launches=6, shared=True, counter="none", sensor="none")
QUIET = {
    **dict.fromkeys(("waited_percent", "pressure_percent", "stolen_percent"), 0.0),
    "throttled": [],
    "involuntary_switches": 0,
}
Times = Callable[[int, str], float]


@pytest.fixture
def subject(artifact: Path) -> Subject:
    return subject_of(artifact)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Replace launches: `time(number, role)` is the time of a call in the launch of this number, in ms."""

    def install(time: Times, noise: Mapping[str, Any] = QUIET, **more: Any) -> list[int]:
        made: list[int] = []

        def start(subjects: Mapping[str, Subject], **options: Any) -> Launch:
            number = len(made)
            made.append(number)
            spread = np.linspace(0.99, 1.01, 200)
            times = {role: time(number, role) * spread for role in subjects}
            models = {
                role: {
                    "session": {"runtime": "onnxruntime", "version": "1.31.1", "threads": "1"},
                    "memory_mib": 64.0,
                    "latency": {"min_ms": float(values.min()), "cpu_ms": float(np.median(values))},
                    "latency_absent": None,
                    "instructions": None,
                    "instructions_absent": "no counter",
                }
                | more
                for role, values in times.items()
            }
            ratio = time(number, "candidate") / time(number, "baseline")
            ratios = dict.fromkeys(
                ("latency-min", "latency-p50", "latency-p90", "latency-p95", "latency-p99", "cpu-time"), ratio
            )
            result = {"models": models, "noise": noise, "machine": read_machine().to_dict()}
            return Launch(result | {"ratios": ratios if len(subjects) == 2 else {}}, times)

        monkeypatch.setattr(rounds.launcher, "start", start)
        return made

    return install


def outcomes(result: dict[str, Any]) -> dict[str, str]:
    return {check["figure"]: check["outcome"] for check in result["checks"] if check["gates"]}


def test_a_figure_within_its_limit_passes_after_one_round(subject: Subject, launches: Any) -> None:
    made = launches(lambda number, role: 5.0)
    result = gate(subject, Budget({"latency-p95": 10.0, "size": 1e6, "latency-min": 6.0}), SETTINGS)
    assert result["exit_code"] == 0 and len(made) == 6 and set(outcomes(result).values()) == {"pass"}


def test_a_figure_above_its_limit_is_measured_three_times_before_it_fails(subject: Subject, launches: Any) -> None:
    made = launches(lambda number, role: 12.0)
    result = gate(subject, Budget({"latency-p95": 10.0}), SETTINGS)
    assert result["exit_code"] == 1 and len(made) == 18 and len(result["checks"][0]["rounds"]) == 3


def test_one_slow_round_is_no_failure(subject: Subject, launches: Any) -> None:
    made = launches(lambda number, role: 12.0 if number < 6 else 5.0)
    result = gate(subject, Budget({"latency-p50": 10.0, "cpu-time": 10.0}), SETTINGS)
    assert result["exit_code"] == 0 and len(made) == 12
    assert [one["outcome"] for one in result["checks"][0]["rounds"]] == ["fail", "pass"]


def test_a_row_shows_the_round_that_decided(subject: Subject, launches: Any, tmp_path: Path) -> None:
    launches(
        lambda number, role: 10.0 if number < 6 else 12.0 if number < 12 else 10.1
    )  # the first are those of the baseline
    update_baseline(subject, tmp_path / "figures.json", SETTINGS)
    result = gate(subject, Budget(), SETTINGS, stored=tmp_path / "figures.json")
    assert result["exit_code"] == 0 and len(result["rounds"]) == 2
    for check in result["checks"]:
        if check["figure"] in ("latency-min", "cpu-time"):
            assert check["ratio"]["value"] == pytest.approx(1.01)
            assert check["value"]["value"] / check["baseline"]["value"] == pytest.approx(1.01)


def test_a_limit_inside_the_interval_is_not_distinguishable(subject: Subject, launches: Any) -> None:
    launches(lambda number, role: 9.5 if number % 2 else 10.5)
    result = gate(subject, Budget({"cpu-time": 10.0}), SETTINGS)
    assert result["exit_code"] == 3 and outcomes(result) == {"cpu-time": "not distinguishable"}


def test_a_percentile_above_its_limit_on_a_disturbed_machine_is_too_noisy(subject: Subject, launches: Any) -> None:
    launches(lambda number, role: 12.0, noise=QUIET | {"waited_percent": 40.0})
    result = gate(subject, Budget({"latency-p95": 10.0}), SETTINGS)
    assert result["exit_code"] == 3 and outcomes(result) == {"latency-p95": "too noisy"}
    assert gate(subject, Budget({"cpu-time": 10.0}), SETTINGS)["exit_code"] == 1


def test_what_is_missed_for_sure_outweighs_what_is_not_measured(subject: Subject, launches: Any) -> None:
    launches(lambda number, role: 12.0)
    budget = Budget({"latency-p95": 10.0, "energy": 5.0, "accuracy-drop": 1.0})
    result = gate(subject, budget, SETTINGS)
    assert result["exit_code"] == 1
    assert outcomes(result) == {"latency-p95": "fail", "energy": "not measured", "accuracy-drop": "not measured"}
    only = gate(subject, replace(budget, limits={"energy": 5.0}), SETTINGS)
    assert only["exit_code"] == 3 and only["checks"][0]["reason"] == "not asked for"
    assert only["rounds"] == []  # nothing was launched for a figure that cannot be had


@pytest.mark.parametrize(("slower", "code", "made"), [(1.0, 0, 6), (1.03, 0, 6), (1.1, 1, 18)])
def test_a_regression_in_turns(subject: Subject, launches: Any, slower: float, code: int, made: int) -> None:
    started = launches(lambda number, role: (1 + number) * (slower if role == "candidate" else 1.0))
    result = gate(subject, Budget(), SETTINGS, older=subject)
    assert (result["exit_code"], len(started)) == (code, made)
    assert set(outcomes(result)) == {"latency-min", "cpu-time", "memory", "size"}
    ratio = next(check["ratio"] for check in result["checks"] if check["figure"] == "cpu-time")
    assert ratio["value"] == pytest.approx(slower)


def test_percentiles_gate_on_a_dedicated_machine_only(subject: Subject, launches: Any) -> None:
    launches(lambda number, role: 1.0)
    shared = gate(subject, Budget(), SETTINGS, older=subject)
    informs = {check["figure"]: check["informs"] for check in shared["checks"]}
    assert "the machine is shared" in informs["latency-p95"] and informs["cpu-time"] is None
    dedicated = gate(subject, Budget(), replace(SETTINGS, shared=False), older=subject)
    assert {"latency-p50", "latency-p95", "latency-p99"} <= set(outcomes(dedicated))


def test_thresholds_of_the_budget_hold(subject: Subject, launches: Any) -> None:
    launches(lambda number, role: 1.1 if role == "candidate" else 1.0)
    loose = Budget(thresholds={"cpu-time": 20.0, "latency-min": 20.0})
    assert gate(subject, loose, SETTINGS, older=subject)["exit_code"] == 0
    named = gate(subject, replace(loose, thresholds=loose.thresholds | {"energy": 5.0}), SETTINGS, older=subject)
    assert named["exit_code"] == 3 and outcomes(named)["energy"] == "not measured"


def test_a_baseline_is_stored_and_compared_with(subject: Subject, launches: Any, tmp_path: Path) -> None:
    stored = tmp_path / "figures.json"
    launches(lambda number, role: 1.0)
    update_baseline(subject, stored, SETTINGS)
    before = stored.read_bytes()
    assert gate(subject, Budget(), SETTINGS, stored=stored)["exit_code"] == 0
    launches(lambda number, role: 1.1)
    assert gate(subject, Budget(), SETTINGS, stored=stored)["exit_code"] == 1
    assert stored.read_bytes() == before
    with pytest.raises(DeviceError, match="threads 1 there, 2 here"):
        gate(subject, Budget(), replace(SETTINGS, threads=2), stored=stored)


def test_a_cpu_time_too_noisy_to_tell_leaves_it_to_the_minimum(subject: Subject, launches: Any, tmp_path: Path) -> None:
    stored = tmp_path / "figures.json"
    launches(lambda number, role: 1.0)
    update_baseline(subject, stored, SETTINGS)
    loaded = (1.0, 1.15, 1.15, 1.16, 1.2, 1.3)
    busy = QUIET | {"waited_percent": 40.0}
    made = launches(lambda number, role: loaded[number % 6], noise=busy)
    result = gate(subject, Budget(), SETTINGS, stored=stored)
    by_figure = {check["figure"]: check for check in result["checks"]}
    assert result["exit_code"] == 0 and len(made) == 19 and by_figure["latency-min"]["gates"]
    assert by_figure["cpu-time"]["outcome"] == "too noisy" and "latency-min passes" in by_figure["cpu-time"]["informs"]
    named = gate(subject, Budget(thresholds={"cpu-time": 5.0}), SETTINGS, stored=stored)
    assert named["exit_code"] == 3 and "give the older artifact as --baseline" in named["checks"][5]["reason"]
    launches(lambda number, role: 1.1 * loaded[number % 6], noise=busy)
    assert gate(subject, Budget(), SETTINGS, stored=stored)["exit_code"] == 1
    launches(lambda number, role: loaded[number % 6])  # nothing disturbed
    assert gate(subject, Budget(), SETTINGS, stored=stored)["exit_code"] == 1


def test_a_limit_on_a_percentile_gates_on_a_shared_machine_too_and_says_so(subject: Subject, launches: Any) -> None:
    launches(lambda number, role: 12.0)
    budget = Budget({"latency-p95": 10.0, "latency-min": 20.0})
    result = gate(subject, budget, SETTINGS)
    assert result["exit_code"] == 1 and "a limit on latency-p95 gates" in result["warnings"][-1]
    dedicated = gate(subject, budget, replace(SETTINGS, shared=False))
    assert dedicated["exit_code"] == 1 and not any("a limit on" in note for note in dedicated["warnings"])


def test_a_larger_file_is_a_regression_without_any_launch_again(subject: Subject, launches: Any) -> None:
    made = launches(lambda number, role: 1.0)
    result = gate(replace(subject, bytes=2 * subject.bytes), Budget(), SETTINGS, older=subject)
    assert result["exit_code"] == 1 and outcomes(result)["size"] == "fail" and len(made) == 6


def test_where_no_time_can_be_compared_nothing_passes(subject: Subject, launches: Any) -> None:
    launches(lambda number, role: 1.0, latency=None, latency_absent="emulated")
    result = gate(subject, Budget(), SETTINGS, older=subject)
    assert result["exit_code"] == 3 and "neither a time nor instructions" in result["failure"]
    assert len(annotations(result)) == 1 and b'errors="1"' in junit(result)


def test_instructions_gate_where_times_are_refused(subject: Subject, launches: Any) -> None:
    def counted(calls: float) -> dict[str, Any]:
        return {"per_call": calls, "low": calls, "high": calls, "calls": 100, "how": "emulated", "counter": "clock"}

    launches(lambda number, role: 1.0, latency=None, latency_absent="emulated", instructions=counted(1e6))
    result = gate(subject, Budget({"instructions": 9e5}), SETTINGS, older=subject)
    assert result["exit_code"] == 1
    by_kind = {(check["figure"], check["check"]): check for check in result["checks"]}
    assert by_kind["instructions", "budget"]["outcome"] == "fail"
    assert by_kind["instructions", "regression"]["outcome"] == "pass"
    assert by_kind["instructions", "budget"]["value"]["how"] == "emulated"


def test_a_crash_in_a_later_round_leaves_nothing_decided(
    subject: Subject, launches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches(lambda number, role: 12.0)
    real: Any = rounds.launcher.start

    def crashing() -> Iterator[None]:
        yield from [None] * 6
        raise CheckFailed("model.onnx crashed (SIGSEGV)")

    turns = crashing()
    monkeypatch.setattr(rounds.launcher, "start", lambda *a, **o: (next(turns), real(*a, **o))[1])
    result = gate(subject, Budget({"cpu-time": 10.0}), SETTINGS)
    assert result["exit_code"] == 3 and result["failure"] == "model.onnx crashed (SIGSEGV)"
    assert result["checks"][0]["reason"] == "model.onnx crashed (SIGSEGV)"


def test_a_stored_baseline_decides_nothing_about_a_model_that_crashes(
    subject: Subject, launches: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches(lambda number, role: 1.0)
    update_baseline(subject, tmp_path / "figures.json", SETTINGS)

    def crash(*_: Any, **__: Any) -> None:
        raise CheckFailed("model.onnx crashed (SIGSEGV)")

    monkeypatch.setattr(rounds.launcher, "start", crash)
    result = gate(subject, Budget(), SETTINGS, stored=tmp_path / "figures.json")
    assert result["exit_code"] == 3 and {check["outcome"] for check in result["checks"]} == {"not measured"}
    assert len(annotations(result)) == 1 and b'errors="1"' in junit(result)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"launches": 0}, "--launches must be 1 to 100, not 0"),
        ({"threads": 5000}, "--threads must be 1 to 1024, not 5000"),
        ({"confirm": 21}, "--confirm must be 0 to 20"),
        ({"seed": -1}, "--seed must be 0 to"),
        ({"sensor": "rapp"}, "did you mean 'rapl'"),
        ({"counter": "fingers"}, "unknown counter"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        replace(SETTINGS, **change)


def test_nothing_to_check_is_refused(subject: Subject) -> None:
    with pytest.raises(DeviceError, match="nothing to check"):
        gate(subject, Budget(), SETTINGS)
    with pytest.raises(DeviceError, match=r"\[regression\] of the budget \(cpu-time\) .* give --baseline") as refused:
        gate(subject, Budget({"size": 1e9}, {"cpu-time": 5.0}), SETTINGS)
    assert refused.value.exit_code == 2
    with pytest.raises(DeviceError, match="use --batch"):
        gate(subject, Budget(), SETTINGS, older=replace(subject, feeds={"image": np.zeros((2, 1, 8, 8), np.float32)}))
