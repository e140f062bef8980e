from typing import Any

import pytest

from edgekd.device.compare import decide, disagreement


def speedups(median: str, computing: str | None, minimum: str = "not distinguishable") -> dict[str, dict[str, Any]]:
    verdicts = {"latency-p50": median, "cpu-time": computing, "latency-min": minimum}
    return {
        name: {"speedup": None if verdict is None else 1.0, "verdict": verdict or "not distinguishable"}
        for name, verdict in verdicts.items()
    }


@pytest.mark.parametrize(
    ("found", "disturbed", "threads", "verdict", "by"),
    [
        (speedups("faster", "not distinguishable"), False, 1, "faster", "latency-p50"),
        (speedups("faster", "not distinguishable"), True, 1, "not distinguishable", "cpu-time"),
        (speedups("not distinguishable", "slower"), True, 1, "slower", "cpu-time"),
        (speedups("not distinguishable", "slower"), False, 1, "not distinguishable", "latency-p50"),
        (speedups("faster", None, "faster"), True, 1, "faster", "latency-min"),
        (speedups("not distinguishable", "slower", "faster"), True, 4, "faster", "latency-min"),
        (speedups("faster", "slower"), False, 4, "faster", "latency-p50"),
    ],
)
def test_what_decides(found: dict[str, dict[str, Any]], disturbed: bool, threads: int, verdict: str, by: str) -> None:
    decided = decide(found, disturbed, threads)
    assert decided == {"verdict": verdict, "by": by, "reason": None}


@pytest.mark.parametrize("disturbed", [True, False])
def test_two_figures_that_contradict_each_other_decide_nothing(disturbed: bool) -> None:
    decided = decide(speedups("faster", "slower"), disturbed, threads=1)
    assert decided["verdict"] == "not distinguishable" and "by the median" in decided["reason"]
    assert decide(speedups("faster", "faster", "slower"), disturbed, 1)["verdict"] == "not distinguishable"


def test_wall_and_computing_time_that_differ_are_told_of() -> None:
    median = {"speedup": 1.3, "low": 1.25, "high": 1.35}
    for low, high, told in ((1.0, 1.2, True), (1.0, 1.24, False), (1.2, 1.4, False), (1.5, 1.6, True)):
        note = disagreement({"latency-p50": median, "cpu-time": {"speedup": 1.1, "low": low, "high": high}})
        assert (note is not None) is told
    assert disagreement({"latency-p50": median, "cpu-time": {"speedup": None, "low": None, "high": None}}) is None
