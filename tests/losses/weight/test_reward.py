import math

from edgekd.losses.weight.reward import Reward


def test_a_fall_greater_than_usual_is_an_advantage_and_a_rise_is_none() -> None:
    reward = Reward()
    assert [reward.advantage(loss) for loss in (10.0, 9.0)] == [0.0, 0.0]
    assert reward.advantage(7.0) > 0
    assert reward.advantage(8.0) < 0


def test_a_steady_fall_is_nothing_unusual() -> None:
    reward = Reward()
    assert [reward.advantage(10.0 - step) for step in range(5)] == [0.0] * 5


def test_the_advantage_does_not_depend_on_the_scale_of_the_loss() -> None:
    losses = (4.0, 3.0, 2.5, 1.0, 1.5)
    small, large = Reward(), Reward()
    found = [(small.advantage(loss), large.advantage(1024 * loss)) for loss in losses]
    assert all(math.isclose(a, b, rel_tol=1e-4) for a, b in found)


def test_what_is_not_finite_is_passed_over_and_extremes_are_cut() -> None:
    reward = Reward()
    for loss in (3.0, 2.0, 1.1, math.nan, 0.3):
        assert math.isfinite(reward.advantage(loss))
    assert float(reward.last) == float(reward.last.new_tensor(0.3))
    assert reward.advantage(1e9) == -3.0
