from collections.abc import Callable

import numpy as np
import pytest

from edgekd.data import Dataset, load_dataset
from edgekd.data.synthetic import shapes_seg, two_view, two_view_shuffled
from edgekd.models.signature import Signature, TensorSpec

Made = Callable[[int, int], Dataset]
MAKERS = [shapes_seg, two_view, lambda samples, seed: two_view(samples, seed, paired=False)]


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_gives_the_same_data(make: Made) -> None:
    assert make(20, 3).digest() == make(20, 3).digest() != make(20, 4).digest()


def test_shapes_have_masks_and_depth() -> None:
    data = shapes_seg(60)
    assert data.targets is not None and data.held_out is not None
    images, masks, depth = data.inputs["image"], data.targets, data.extras["depth"]
    assert images.shape == (60, 3, 64, 64) and images.dtype == np.float32 and np.abs(images).max() < 3
    assert masks.shape == (60, 64, 64) and depth.shape == (60, 1, 64, 64) and data.held_out.sum() == 12
    assert set(np.unique(masks)) == {0, 1, 2}
    assert (depth[:, 0][masks == 0] == 1).all() and depth[:, 0][masks > 0].max() <= 0.8
    discs, squares = (masks == 1).mean(), (masks == 2).mean()
    assert 0.8 < discs / squares < 1.25 and discs + squares > 0.15
    assert all(len(np.unique(depth[i][masks[i][None] == label])) <= 1 for i in range(60) for label in (1, 2))


def test_a_square_has_straight_edges_and_a_disc_has_none() -> None:
    """The share of its bounding box that a shape fills tells them apart: 1 against pi / 4."""
    data = shapes_seg(60)
    assert data.targets is not None
    fills: dict[int, list[float]] = {1: [], 2: []}
    for mask, depth in zip(data.targets, data.extras["depth"][:, 0], strict=True):
        nearer = int(mask[np.unravel_index(depth.argmin(), depth.shape)])
        rows, columns = np.nonzero(mask == nearer)
        if rows.min() > 0 and columns.min() > 0 and rows.max() < 63 and columns.max() < 63:
            fills[nearer].append(len(rows) / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    assert min(fills[2]) == 1.0 and max(fills[1]) < 0.95


def test_two_views_have_balanced_classes_and_shapes() -> None:
    data = two_view(600)
    assert data.targets is not None and data.held_out is not None
    assert np.bincount(data.targets).tolist() == [100] * 6 and data.held_out.sum() == 200
    assert data.inputs["b"].shape == (600, 24) and data.extras["a"].shape == (600, 32)
    assert (data.extras["a_targets"] == data.targets).all()


def accuracy_of_least_squares(inputs: np.ndarray, data: Dataset) -> float:
    assert data.targets is not None and data.held_out is not None
    columns, known = np.c_[inputs, np.ones(len(inputs))], ~data.held_out
    weights = np.linalg.lstsq(columns[known], np.eye(6)[data.targets[known]], rcond=None)[0]
    return float(((columns @ weights).argmax(1) == data.targets)[data.held_out].mean())


@pytest.mark.parametrize("seed", range(3))
def test_both_views_tell_the_classes_apart_and_the_strong_one_better(seed: int) -> None:
    data = two_view(seed=seed)
    strong, weak = (accuracy_of_least_squares(array, data) for array in (data.extras["a"], data.inputs["b"]))
    assert 0.5 < weak < strong - 0.1 and strong < 1


def test_shuffled_views_keep_their_own_targets() -> None:
    paired, shuffled = two_view(), two_view(paired=False)
    assert paired.targets is not None and shuffled.held_out is not None
    assert (shuffled.inputs["b"] == paired.inputs["b"]).all() and (shuffled.targets == paired.targets).all()
    assert (shuffled.extras["a_targets"] == shuffled.targets).mean() < 0.25  # one in six by chance
    for half in (shuffled.held_out, ~shuffled.held_out):
        one, other = (np.c_[data.extras["a"], data.extras["a_targets"]][half] for data in (paired, shuffled))
        assert (one[np.lexsort(one.T)] == other[np.lexsort(other.T)]).all()
    assert accuracy_of_least_squares(shuffled.extras["a"], shuffled) < 0.3


def test_they_are_named_as_code() -> None:
    signature = Signature(inputs=(TensorSpec(name="b", shape=("batch", 24)),))
    found = load_dataset("edgekd.data.synthetic:two_view_shuffled", signature)
    assert found.digest() == two_view_shuffled().digest()
