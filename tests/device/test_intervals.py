"""The intervals hold what they promise, on samples whose distribution is known."""

import math

import numpy as np
import pytest

from edgekd.device.intervals import inefficiency, mean_interval, quantile_interval


@pytest.mark.parametrize(("quantile", "count"), [(0.5, 20), (0.5, 500), (0.5, 5000), (0.95, 300)])
def test_interval_of_independent_samples_covers_the_truth(quantile: float, count: int) -> None:
    generator = np.random.default_rng(0)
    truth = {0.5: 1.0, 0.95: math.exp(1.6448536)}[quantile]  # of a log-normal distribution
    covered = 0
    for _ in range(400):
        low, high = quantile_interval(np.exp(generator.normal(size=count)), quantile)
        assert count == 20 or (low is not None and high is not None)
        covered += (low is None or low <= truth) and (high is None or truth <= high)
    assert covered >= 0.93 * 400


def test_interval_of_correlated_samples_covers_the_truth() -> None:
    generator = np.random.default_rng(0)
    corrected = naive = means = 0
    for _ in range(200):
        samples = np.zeros(2000)
        for index, shock in enumerate(generator.normal(size=2000)[1:], start=1):
            samples[index] = 0.9 * samples[index - 1] + shock
        low, high = mean_interval(samples)
        means += low is not None and high is not None and low <= 0.0 <= high
        low, high = quantile_interval(samples, 0.5)
        corrected += low is not None and high is not None and low <= 0.0 <= high
        low, high = quantile_interval(samples, 0.5, independent=True)
        naive += low is not None and high is not None and low <= 0.0 <= high
    assert corrected >= 0.88 * 200 > naive
    assert means >= 0.88 * 200


def test_known_ranks() -> None:
    ordered = np.arange(1.0, 101.0)
    # textbook: the 95 % interval of the median of 100 samples runs from the 40th to the 61st
    assert quantile_interval(ordered, 0.5, independent=True) == (40.0, 61.0)
    assert quantile_interval(np.arange(1.0, 7.0), 0.5, independent=True) == (1.0, 6.0)


def test_too_few_samples_have_no_interval() -> None:
    assert quantile_interval(np.arange(5.0), 0.5, independent=True) == (None, None)
    assert quantile_interval(np.array([1.0]), 0.5) == (None, None)
    low, high = quantile_interval(np.arange(60.0), 0.95, independent=True)
    assert low is not None and high is None


def test_equal_samples_have_an_interval_without_width() -> None:
    assert quantile_interval(np.full(200, 3.0), 0.5) == (3.0, 3.0)


def test_inefficiency() -> None:
    generator = np.random.default_rng(0)
    independent = generator.normal(size=20_000)
    assert inefficiency(independent) == pytest.approx(1.0, abs=0.1)
    repeated = np.repeat(generator.normal(size=4000), 5)
    assert inefficiency(repeated) == pytest.approx(5.0, rel=0.15)
    assert inefficiency(np.ones(10)) == 1.0 and inefficiency(np.array([1.0, 2.0])) == 1.0


def test_interval_of_a_mean_covers_the_truth_of_skewed_samples() -> None:
    generator = np.random.default_rng(0)
    truth = math.exp(0.5)
    covered = 0
    for _ in range(200):
        low, high = mean_interval(np.exp(generator.normal(size=2000)))
        assert low is not None and high is not None
        covered += low <= truth <= high
    assert covered >= 0.88 * 200
    assert mean_interval(np.ones(9)) == (None, None) and mean_interval(np.ones(10)) == (1.0, 1.0)
