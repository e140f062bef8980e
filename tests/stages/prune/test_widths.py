import pytest
import torch

from edgekd.models.network import count_macs
from edgekd.stages.prune import PruneSettings
from edgekd.stages.prune.pruner import prune_until
from edgekd.stages.prune.widths import least_important, least_width, legal_width

from .networks import convolutions, signed


@pytest.mark.parametrize(
    ("width", "largest", "multiple", "least"),
    [
        (128, 0.75, 16, 32),
        (100, 0.75, 16, 32),
        (128, 0.9, 1, 13),
        (16, 0.75, 16, 16),
        (10, 0.75, 16, 10),
        (3, 0.99, 1, 1),
    ],
)
def test_what_has_to_stay_is_a_multiple(width: int, largest: float, multiple: int, least: int) -> None:
    assert least_width(width, largest, multiple) == least
    assert legal_width(1, width, largest, multiple) == least


def test_a_legal_width_is_not_below_the_wanted_one() -> None:
    assert [legal_width(wanted, 64, 0.75, 16) for wanted in (64, 50, 48, 47.5, 17, 3)] == [64, 64, 48, 48, 32, 16]


def test_parts_lose_channels_at_the_same_places() -> None:
    values = torch.tensor([5.0, 1.0, 4.0, 5.0, 3.0, 1.0])  # sums by place: 10, 4, 5
    assert least_important(values, 2, 1) == [1, 4]
    assert least_important(values, 2, 2) == [1, 2, 4, 5]
    assert least_important(values, 1, 2) == [1, 5]


@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
@pytest.mark.parametrize("largest", [0.75, 0.6])
def test_no_layer_loses_more_than_the_largest_cut(scope: str, largest: float) -> None:
    """Torch-Pruning tests its limit before a cut, which may then pass it by a multiple."""
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    with torch.no_grad():
        network[3].weight[::2] *= 1e-4  # half of the wide layer wants to go first
    before = count_macs(network, signature)
    settings = PruneSettings(to_macs=0.5, scope=scope, largest_cut=largest, steps=8)  # type: ignore[arg-type]
    prune_until(network, signature, settings, 4, lambda candidate: False)
    widths = network[0].out_channels, network[3].out_channels
    assert widths == ((4, 8) if largest == 0.75 else (8, 16)) and count_macs(network, signature) < before
