import numpy as np
import pytest

from edgekd.stages.quantize import QuantizeSettings
from edgekd.stages.quantize.calibration import choose_range
from edgekd.stages.quantize.observation import BINS, Histogram

SETTINGS = QuantizeSettings()


def histogram(values: np.ndarray) -> Histogram:
    return Histogram(float(values.min()), float(values.max()), np.histogram(values, BINS)[0])


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    zero = np.round(-low / step)
    return float((((np.clip(np.round(values / step) + zero, 0, 255) - zero) * step - values) ** 2).mean())


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    """A bell curve with one far outlier."""
    return np.append(np.random.default_rng(0).normal(size=100_000), 40.0)


def test_min_max_keeps_every_value_and_always_holds_zero(normal: np.ndarray) -> None:
    assert choose_range(histogram(normal), "min-max", SETTINGS) == (normal.min(), 40.0)
    assert choose_range(histogram(np.linspace(2, 3, 100)), "min-max", SETTINGS) == (0.0, 3.0)


def test_percentile_cuts_the_share_it_says(normal: np.ndarray) -> None:
    low, high = choose_range(histogram(normal), "percentile", QuantizeSettings(percentile=99.0))
    outside = ((normal < low) | (normal > high)).mean()
    assert 0.005 < outside < 0.0125 and high < 4


def test_a_percentile_of_100_is_min_max(normal: np.ndarray) -> None:
    everything = choose_range(histogram(normal), "percentile", QuantizeSettings(percentile=100.0))
    assert everything == pytest.approx((normal.min(), 40.0))


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_mse_is_as_good_as_the_best_range_found_by_force(normal: np.ndarray, shift: float) -> None:
    values = normal + shift  # one whose two ends want different cuts
    low, high = choose_range(histogram(values), "mse", SETTINGS)
    factors = np.geomspace(1, 0.05, 40)
    forced = min(squared_error(values, values.min() * a, values.max() * b) for a in factors for b in factors)
    assert squared_error(values, low, high) <= 1.1 * forced
    assert squared_error(values, low, high) < squared_error(values, values.min(), values.max())


def test_entropy_cuts_the_outlier_but_not_the_bell(normal: np.ndarray) -> None:
    low, high = choose_range(histogram(normal), "entropy", SETTINGS)
    assert 2.5 < high < 40 and ((normal >= low) & (normal <= high)).mean() > 0.5


def test_many_zeros_do_not_move_the_entropy_range(normal: np.ndarray) -> None:
    positive = np.abs(normal[:-1])
    low, high = choose_range(histogram(positive), "entropy", SETTINGS)
    _, with_zeros = choose_range(histogram(np.append(positive, np.zeros(400_000))), "entropy", SETTINGS)
    assert low == 0 and with_zeros == pytest.approx(high, rel=0.1)


@pytest.mark.parametrize("calibrator", ["min-max", "percentile", "mse", "entropy"])
def test_a_constant_tensor_has_a_range(calibrator: str) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[0] = 10
    assert choose_range(Histogram(2.0, 2.0, counts), calibrator, SETTINGS) == (0.0, 2.0)  # type: ignore[arg-type]
