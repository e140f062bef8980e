import pytest

from edgekd.verbs.statistics import compared, geometric_mean_of, holm, mean_of, paired, t_cdf, t_quantile


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042)],
)
def test_the_quantiles_are_those_of_the_tables(freedom: int, value: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(value, abs=1e-3)
    assert t_cdf(-value, freedom) == pytest.approx(0.025, abs=1e-4) and t_cdf(0, freedom) == 0.5


def test_a_paired_comparison() -> None:
    """By hand: mean 2, deviation 1, error 1/sqrt(3), t 3.4641 with 2 degrees of freedom: p 0.0742."""
    found = paired([1.0, 2.0, 3.0])
    assert found.mean == 2 and found.p == pytest.approx(0.0742, abs=1e-4)
    assert found.low == pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-3)
    assert paired([0.0, 0.0]).p == 1.0 and paired([1.2 - 1, 0.2]).p == 0.5
    with pytest.raises(ValueError, match="two pairs"):
        paired([1.0])


def test_holm_multiplies_the_smallest_by_their_number() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_a_mean_has_an_interval_from_two_values_on() -> None:
    found = mean_of([1.0, 2.0, 3.0])
    assert (found.mean, found.low) == (2, pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-3))
    assert mean_of([5.0]).low is None and mean_of([5.0]).high is None


def test_a_geometric_mean_stays_above_zero() -> None:
    found = geometric_mean_of([0.5, 2.0])
    assert found.mean == pytest.approx(1) and found.low is not None and found.high is not None
    assert found.low > 0 and found.low * found.high == pytest.approx(1)
    assert geometric_mean_of([3.0]).mean == pytest.approx(3)


def test_arms_are_compared_with_a_reference() -> None:
    found = compared({"up": [3.0, 3.2, 3.0], "down": [0.0, 0.1, 0.1], "same": [1.0, 1.2, 0.9]}, [1.0, 1.1, 1.0])
    assert {name: one.verdict for name, one in found.items()} == {
        "up": "better", "down": "worse", "same": "not distinguishable",
    }  # fmt: skip
    less = compared({"up": [3.0, 3.1, 3.0]}, [1.0, 1.1, 1.2], higher_is_better=False)
    assert less["up"].verdict == "worse" and less["up"].corrected == less["up"].difference.p
