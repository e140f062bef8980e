from typing import Any

import pytest

from edgekd.device.compare import decide


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
