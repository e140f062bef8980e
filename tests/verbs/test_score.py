import numpy as np
import pytest

from edgekd.verbs.score import _by_class, _interval


def test_classes() -> None:
    outputs = np.eye(3)[[0, 0, 1, 2, 2, 2]]
    targets = np.array([0, 0, 0, 1, 2, 2])
    cat, dog, bird = _by_class(outputs, targets, ("cat", "dog", "bird"))
    assert (cat.samples, round(cat.accuracy, 1), cat.mistaken_for) == (3, 66.7, "dog")
    assert (dog.label, dog.accuracy, dog.mistaken_for) == ("dog", 0.0, "bird")
    assert (bird.accuracy, bird.mistaken_for) == (100.0, None)
    assert _by_class(outputs, targets, None)[0].label == "0"


@pytest.mark.parametrize(
    ("percent", "samples", "low", "high"), [(90.0, 100, 82.56, 94.48), (100.0, 50, 92.87, 100.0), (0.0, 50, 0.0, 7.13)]
)
def test_wilsons_interval(percent: float, samples: int, low: float, high: float) -> None:
    found = _interval(percent, samples)
    assert found == pytest.approx((low, high), abs=0.01)
