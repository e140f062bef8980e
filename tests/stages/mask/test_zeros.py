import numpy as np
import pytest
import torch

from edgekd.stages.mask import MaskSettings
from edgekd.stages.mask.zeros import leaves_some, set_zeros


def weights(*shapes: tuple[int, ...]) -> list[tuple[torch.Tensor, int]]:
    """Weights of different sizes, the later ones smaller, all with their inputs on axis 1."""
    torch.manual_seed(0)
    return [(torch.randn(shape) / (1 + position), 1) for position, shape in enumerate(shapes)]


def zeros(tensor: torch.Tensor) -> int:
    return int((tensor == 0).sum())


@pytest.mark.parametrize("importance", ["magnitude", "lamp"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.7, 0.93])
def test_the_share_is_exact_over_all_layers(importance: str, share: float) -> None:
    given = weights((7, 5, 3, 3), (11, 13), (4, 1, 3, 3))
    set_zeros(given, MaskSettings.model_validate({"sparsity": share, "importance": importance}), share)
    assert sum(zeros(one) for one, _ in given) == round(share * sum(one.numel() for one, _ in given))
    assert all(one.count_nonzero() for one, _ in given)


def test_the_least_of_all_layers_go() -> None:
    given = weights((20, 30), (10, 5, 3, 3))
    before = torch.cat([one.flatten().clone() for one, _ in given])
    set_zeros(given, MaskSettings(sparsity=0.6), 0.6)
    after = torch.cat([one.flatten() for one, _ in given])
    assert before[after == 0].abs().max() < before[after != 0].abs().min()
    assert torch.equal(before[after != 0], after[after != 0])


def test_locally_every_layer_gives_the_same_share() -> None:
    given = weights((20, 30), (10, 5, 3, 3))
    set_zeros(given, MaskSettings(sparsity=0.6, scope="local"), 0.6)
    assert [zeros(one) for one, _ in given] == [360, 270]


def test_lamp_is_what_its_definition_says() -> None:
    given = weights((6, 7), (5, 4, 2, 2))
    before = [one.clone() for one, _ in given]
    scores = []
    for tensor in before:
        squares = tensor.flatten().double().numpy() ** 2
        scores.append([value / squares[squares >= value].sum() for value in squares])
    least = np.sort(np.concatenate(scores))[:60]
    set_zeros(given, MaskSettings(sparsity=60 / 122, importance="lamp"), 60 / 122)
    for (after, _), own in zip(given, scores, strict=True):
        np.testing.assert_array_equal(after.flatten() == 0, np.array(own) <= least[-1])
    by_size = [(one.clone(), 1) for one in before]
    set_zeros(by_size, MaskSettings(sparsity=60 / 122), 60 / 122)
    assert zeros(given[1][0]) < zeros(by_size[1][0])  # the layer of small weights loses less


def test_equal_weights_are_told_apart() -> None:
    given = [(torch.ones(10, 10), 1)]
    set_zeros(given, MaskSettings(sparsity=0.37), 0.37)
    assert zeros(given[0][0]) == 37


def test_a_layer_of_small_weights_keeps_its_greatest() -> None:
    large, small = torch.rand(10, 10) + 1, torch.rand(2, 5) * 1e-3
    greatest = small.argmax()
    set_zeros([(large, 1), (small, 1)], MaskSettings(sparsity=0.2), 0.2)
    assert zeros(small) == 9 and small.flatten()[greatest] > 0 and zeros(large) == 13


@pytest.mark.parametrize("scope", ["global", "local"])
def test_more_than_all_but_one_cannot_go(scope: str) -> None:
    settings = MaskSettings.model_validate({"sparsity": 0.9, "scope": scope})
    assert leaves_some([100, 10], settings) and not leaves_some([9, 3], settings)


@pytest.mark.parametrize(("pattern", "kept", "size"), [("2:4", 2, 4), ("4:8", 4, 8), ("1:4", 1, 4)])
@pytest.mark.parametrize(("shape", "axis"), [((6, 16), 1), ((6, 8, 3, 3), 1), ((8, 6, 3, 3), 0)])
def test_the_greatest_of_every_group_stay(
    pattern: str, kept: int, size: int, shape: tuple[int, ...], axis: int
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape).to(memory_format=torch.channels_last if len(shape) == 4 else torch.contiguous_format)
    before = weight.clone()
    settings = MaskSettings(pattern=pattern)
    set_zeros([(weight, axis)], settings, settings.zeros)
    after, old = (np.moveaxis(one.numpy(), axis, -1).reshape(-1, size) for one in (weight, before))
    assert ((after != 0).sum(1) == kept).all()
    wanted = np.sort(np.abs(old), 1)[:, size - kept :]
    np.testing.assert_array_equal(np.sort(np.abs(after), 1)[:, size - kept :], wanted)


@pytest.mark.parametrize("given", [{"sparsity": 0.8}, {"sparsity": 0.8, "importance": "lamp"}, {"pattern": "2:8"}])
def test_zeros_only_grow_in_number(given: dict[str, object]) -> None:
    settings = MaskSettings.model_validate(given)
    made = weights((16, 8, 3, 3), (10, 16))
    found = []
    for progress in np.linspace(0, 1, 15):
        before = [one == 0 for one, _ in made]
        set_zeros(made, settings, settings.zeros_at(progress))
        assert all((one[was] == 0).all() for (one, _), was in zip(made, before, strict=True))
        found.append(sum(zeros(one) for one, _ in made))
    assert found[0] == 0 and found == sorted(found) and len(set(found)) > 4
