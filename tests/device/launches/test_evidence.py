from typing import Any

import numpy as np
import pytest

from edgekd.device.launches.evidence import Evidence, ratio_of
from edgekd.device.launches.figures import Figure
from edgekd.device.launches.launcher import Launch


def launch(cpu: dict[str, float], times: dict[str, list[float]], **more: Any) -> Launch:
    """Return what a launch gives, with these CPU times and calls, in ms."""
    models = {
        role: {
            "latency": {"min_ms": min(times[role]), "cpu_ms": cpu[role]},
            "latency_absent": None,
            "memory_mib": 64.0 if role == "candidate" else None,
            "instructions": None,
            "instructions_absent": "no counter",
        }
        | more
        for role in cpu
    }
    ratios = {"cpu-time": cpu["candidate"] / cpu["baseline"]} if "baseline" in cpu else {}
    return Launch({"models": models, "ratios": ratios, "noise": None}, {role: np.array(times[role]) for role in times})


def alone(cpu: float, calls: int = 30, **more: Any) -> Launch:
    generator = np.random.default_rng(int(1000 * cpu))
    return launch({"candidate": cpu}, {"candidate": list(1 + generator.random(calls))}, **more)


def test_six_launches_give_the_median_and_its_interval() -> None:
    evidence = Evidence([alone(cpu) for cpu in (1.0, 1.1, 1.2, 1.3, 1.4, 9.0)])
    figure = evidence.figure("cpu-time")
    assert (figure.value, figure.low, figure.high, figure.samples) == (pytest.approx(1.25), 1.0, 9.0, 6)
    assert evidence.figure("memory").value == 64 * 2**20


def test_the_minimum_is_that_of_all_calls() -> None:
    slow, fast = launch({"candidate": 1.0}, {"candidate": [1.4, 1.3]}), launch({"candidate": 1.0}, {"candidate": [1.2]})
    figure = Evidence([slow, fast, slow]).figure("latency-min")
    assert (figure.value, figure.low, figure.samples) == (1.2, None, 5)


def test_a_single_launch_has_no_interval() -> None:
    figure = Evidence([alone(1.5)]).figure("cpu-time")
    assert (figure.value, figure.low, figure.high) == (1.5, None, None)


def test_a_percentile_needs_its_calls_and_takes_those_of_all_launches() -> None:
    few, many = Evidence([alone(1.0)] * 4), Evidence([alone(1.0)] * 5)
    assert few.figure("latency-p95").value is None
    assert str(few.figure("latency-p95").reason).startswith("p95 needs 130 calls, 120 were made")
    p95 = many.figure("latency-p95")
    assert p95.value is not None and p95.low is not None and p95.high is not None
    assert 1.8 < p95.low <= p95.value <= p95.high <= 2.0
    assert many.figure("latency-p50").value is not None and (few + many).figure("latency-p95").samples == 270


def test_ratios_are_those_within_the_launches() -> None:
    drifting = [
        launch({"candidate": 1.1 * speed, "baseline": speed}, {r: [1.0] for r in ("candidate", "baseline")})
        for speed in (1, 2, 5)
    ]
    ratio = Evidence(drifting).ratio("cpu-time")
    assert ratio.value == pytest.approx(1.1) and ratio.low == pytest.approx(1.1) and ratio.high == pytest.approx(1.1)


def test_what_no_launch_measured_says_why() -> None:
    evidence = Evidence([alone(1.0, latency=None, latency_absent="emulated", memory_mib=None)])
    for name, words in (
        ("latency-min", "emulated"),
        ("cpu-time", "emulated"),
        ("latency-p50", "emulated"),
        ("memory", "peak memory"),
        ("instructions", "no counter"),
        ("energy", "no budget is about it"),
    ):
        figure = evidence.figure(name)
        assert figure.value is None and words in str(figure.reason)


def test_instructions_of_an_emulated_machine_are_told_as_such() -> None:
    counts = [
        {"instructions": {"per_call": value, "low": value - 5, "high": value + 5, "how": "emulated", "calls": 100}}
        for value in (1000.0, 1010.0, 1002.0)
    ]
    figure = Evidence([alone(1.0, **count) for count in counts]).figure("instructions")
    assert (figure.value, figure.low, figure.high, figure.how) == (1002.0, 1000.0, 1010.0, "emulated")
    single = Evidence([alone(1.0, **counts[0])]).figure("instructions")
    assert (single.value, single.low, single.high) == (1000.0, 995.0, 1005.0)


def test_two_launches_for_energy_know_the_mean_better_than_one() -> None:
    energy = {"total_mj": 5.0, "total_low_mj": 4.0, "total_high_mj": 6.0, "samples": 20}
    one = Launch({"models": {"candidate": {"energy": energy, "energy_absent": None}}}, {})
    assert Evidence(energy=[one]).figure("energy").low == pytest.approx(4.0)
    figure = Evidence(energy=[one, one]).figure("energy")
    assert figure.value == pytest.approx(5.0) and figure.low == pytest.approx(5 - 0.5**0.5)


def test_figures_measured_apart_divide_with_all_that_both_intervals_allow() -> None:
    ratio = ratio_of(Figure(11.0, 10.0, 12.0), Figure(10.0, 8.0, 12.5))
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(1.1), pytest.approx(0.8), pytest.approx(1.5))
    assert ratio_of(Figure(11.0), Figure(10.0)).low is None
    assert "cannot be told from 0" in str(ratio_of(Figure(1.0, 0.5, 1.5), Figure(0.2, 0.0, 0.4)).reason)
    assert ratio_of(Figure(11.0), Figure(None, reason="the baseline holds none")).reason == "the baseline holds none"
