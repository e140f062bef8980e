import pytest

from edgekd.budget import Budget, judge
from edgekd.figures import Figure


def test_each_limit_gets_its_verdict() -> None:
    figures = {
        "accuracy_drop": Figure("%", 0.4, "measured"),
        "size_kb": Figure("kB", 120.0, "counted"),
        "latency_ms": Figure("ms", 2.0, "measured", low=1.8, high=2.2),
        "energy_mj": Figure.absent("mJ", "no sensor"),
    }
    budget = Budget(accuracy_drop=0.5, size_kb=100, latency_ms=2.1, energy_mj=1)
    outcomes = {verdict.limit: verdict.outcome for verdict in judge(budget, figures)}
    assert outcomes == {
        "accuracy_drop": "pass",
        "size_kb": "fail",
        "latency_ms": "not distinguishable",
        "energy_mj": "not measured",
    }


def test_a_limit_on_the_interval_s_edge_is_decided() -> None:
    figure = Figure("ms", 2.0, "measured", low=1.8, high=2.2)
    assert judge(Budget(latency_ms=2.2), {"latency_ms": figure})[0].outcome == "pass"
    assert judge(Budget(latency_ms=1.8), {"latency_ms": figure})[0].outcome == "fail"


def test_a_figure_says_where_it_comes_from_or_why_it_is_absent() -> None:
    with pytest.raises(ValueError, match="how it was obtained"):
        Figure("ms", 1.0)
    with pytest.raises(ValueError, match="reason"):
        Figure("ms", None)
    assert Figure.absent("ms", "no board").to_dict() == {"unit": "ms", "value": None, "reason": "no board"}
