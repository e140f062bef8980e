from dataclasses import replace

import pytest

from edgekd.device.gate.checks import decide, judge_limit, judge_ratio
from edgekd.device.launches.figures import Figure

ABSENT = Figure(None, reason="no sensor")


@pytest.mark.parametrize(
    ("figure", "outcome"),
    [
        (Figure(9.0, 8.5, 9.5), "pass"),
        (Figure(11.0, 10.5, 11.5), "fail"),
        (Figure(9.9, 9.5, 10.5), "not distinguishable"),
        (Figure(10.2, 9.5, 10.5), "not distinguishable"),
        (Figure(10.0), "pass"),
        (Figure(10.1), "fail"),
        (Figure(10.0, 10.0, 10.0), "pass"),
        (ABSENT, "not measured"),
    ],
)
def test_a_limit_of_ten(figure: Figure, outcome: str) -> None:
    assert judge_limit(figure, 10.0).outcome == outcome


def test_above_the_limit_proves_nothing_where_others_disturbed() -> None:
    judged = judge_limit(Figure(11.0, 10.5, 11.5), 10.0, ["it waited for a core 30 % of the time"])
    assert judged.outcome == "too noisy" and "30 %" in str(judged.reason)
    assert judge_limit(Figure(9.0, 8.5, 9.5), 10.0, ["it waited"]).outcome == "pass"  # noise only adds


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        (Figure(1.00, 0.98, 1.02), "pass"),
        (Figure(1.04, 1.01, 1.06), "pass"),
        (Figure(1.08, 1.04, 1.12), "fail"),
        (Figure(1.08), "fail"),
        (Figure(1.08, 0.99, 1.15), "not distinguishable"),
        (Figure(1.02, 0.95, 1.20), "too noisy"),
        (ABSENT, "not measured"),
    ],
)
def test_a_threshold_of_five_percent(ratio: Figure, outcome: str) -> None:
    assert judge_ratio(ratio, 5.0).outcome == outcome


def test_one_round_that_passes_is_enough_and_else_all_count_together() -> None:
    passed, failed, unclear = (judge_limit(Figure(*ends), 10.0) for ends in ((9, 8, 9.5), (11, 10.5, 12), (10, 9, 11)))
    assert decide([failed, passed, failed], failed) == replace(passed, round=1)
    assert decide([failed, failed, unclear], failed) is failed
    assert decide([unclear, unclear], unclear) is unclear and unclear.outcome == "not distinguishable"
