import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.teachers import fit_instance_depth, vote_masks

RANDOM = np.random.default_rng(0)


def masks(*pixels: list[int]) -> np.ndarray:
    """Return K masks of one row of pixels."""
    return np.array(pixels)[:, None, None, :]


def test_the_majority_wins_and_ties_are_ignored() -> None:
    voted = vote_masks(masks([0, 1, 2, -1, -1], [0, 1, 0, -1, 3], [1, 1, 1, -1, -1]))
    assert voted.ravel().tolist() == [0, 1, -1, -1, 3]


def test_weights_decide() -> None:
    three = masks([0, 0], [1, 1], [1, 2])
    assert vote_masks(three, np.array([3.0, 1.0, 1.0])).ravel().tolist() == [0, 0]
    assert vote_masks(three, np.array([0.3, 0.1, 0.2])).ravel().tolist() == [-1, 0]  # 0.1 + 0.2 is level with 0.3
    pixels = np.ones((3, 1, 1, 2))
    pixels[0, ..., 1] = 5
    assert vote_masks(three, pixels).ravel().tolist() == [1, 0]
    assert vote_masks(three, np.array([[0.0], [1.0], [1.0]])).ravel().tolist() == [1, -1]


def test_votes_agree_with_a_loop_over_pixels() -> None:
    many, weights = RANDOM.integers(-1, 4, (5, 2, 6, 7)), RANDOM.random(5)
    for place in np.ndindex(2, 6, 7):
        votes = {
            label: sum(w for w, m in zip(weights, many[:, *place], strict=True) if m == label) for label in range(4)
        }
        wanted = max(votes, key=lambda label: votes[label]) if any(votes.values()) else -1
        assert vote_masks(many, weights)[place] == wanted


def test_a_winner_may_need_a_share_of_the_votes() -> None:
    four = masks([0, 0], [0, 0], [1, 1], [2, -1])
    assert vote_masks(four, least=0.5).ravel().tolist() == [0, 0]
    assert vote_masks(four, least=0.6).ravel().tolist() == [-1, 0]


def test_shapes_and_weights_are_checked() -> None:
    with pytest.raises(InputError, match=r"integers \(K, N, H, W\)"):
        vote_masks(np.zeros((2, 3, 3), int))
    for wrong in (np.ones(3), np.array([1.0, -1.0]), np.ones((2, 1, 1)), np.array([1.0, np.nan])):
        with pytest.raises(InputError, match="weights have the shape"):
            vote_masks(np.zeros((2, 1, 1, 3), int), wrong)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return relative depth, true depth and instances of two images with two instances each."""
    relative = RANDOM.random((2, 8, 10))
    instances = np.full(relative.shape, -1)
    instances[:, :4, :5], instances[:, 4:, 5:] = 0, 7
    depth = 3 * relative + 1
    depth[:, :4, :5] = 2 * relative[:, :4, :5] + 5
    depth[:, 4:, 5:] = 4 * relative[:, 4:, 5:] - 0.5
    return relative, depth, instances


def test_scale_and_shift_of_every_instance_are_found() -> None:
    relative, depth, instances = scene()
    reference = np.where(RANDOM.random(depth.shape) < 0.9, depth, np.nan)
    fitted = fit_instance_depth(relative, reference, instances, fewest=4)
    inside = instances >= 0
    np.testing.assert_allclose(fitted[inside], depth[inside], rtol=1e-5)
    for image in range(2):  # pixels of no instance take the fit of the image
        known = np.isfinite(reference[image])
        scale, shift = np.polyfit(relative[image][known], reference[image][known], 1)
        outside = ~inside[image]
        np.testing.assert_allclose(fitted[image][outside], scale * relative[image][outside] + shift, rtol=1e-5)


def test_small_flat_and_turned_instances_take_the_fit_of_the_image() -> None:
    relative = RANDOM.random((1, 20, 20))
    reference = 2 * relative + 1
    instances = np.full(relative.shape, -1)
    instances[0, 0, :3] = 0  # small
    instances[0, 5:7, :10], relative[0, 5:7, :10] = 1, 0.5  # flat
    reference[0, 5:7, :10] = 2.0
    instances[0, 10:12, :10] = 2  # turned
    reference[0, 10:12, :10] = 5 - relative[0, 10:12, :10]
    scale, shift = np.polyfit(relative.ravel(), reference.ravel(), 1)
    np.testing.assert_allclose(fit_instance_depth(relative, reference, instances), scale * relative + shift, rtol=1e-5)


def test_an_image_without_reference_has_no_depth() -> None:
    relative, depth, instances = scene()
    depth[0] = np.nan
    fitted = fit_instance_depth(relative, depth, instances)
    assert np.isnan(fitted[0]).all() and np.isfinite(fitted[1]).all()
    with pytest.raises(InputError, match="are not one"):
        fit_instance_depth(relative, depth[:1], instances)
