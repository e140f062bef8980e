import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import BudgetMissed
from edgekd.models.edits import apply_edits
from edgekd.models.network import count_macs
from edgekd.stages.prune import STAGE, PruneSettings
from edgekd.stages.prune.groups import lost_names, prunable_groups
from edgekd.stages.prune.pruner import prune_until, width_edits
from edgekd.stages.prune.smallest import smallest

from .networks import opened, signed


class Gated(nn.Module):
    """A convolution whose two halves are multiplied, before one of four groups."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.second, self.head = nn.Conv2d(32, 64, 3, padding=1, groups=groups), nn.Linear(64, 4)

    def halves(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.chunk(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.halves(self.norm(self.first(x)))
        return self.head(self.second(a * b.sigmoid()).relu().mean((2, 3)))


class GatedByNumber(Gated):
    def halves(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(32, 1)


class GatedUnevenly(Gated):
    """What one half is a slice of a part of the other, by number."""

    def halves(self, x: Tensor) -> tuple[Tensor, ...]:
        return x[:, :32], x[:, 20:52]


class Shuffled(Gated):
    def halves(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2).chunk(2, 1)


class UsedTwice(Gated):
    """A half goes into the next layer, and into a sum: as in C2f."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.halves(self.norm(self.first(x)))
        y = torch.cat([a, b + self.second(b)[:, :32]], 1)
        return self.head(y.relu().mean((2, 3)))


class GatedTokens(nn.Module):
    """The two halves of the last axis of tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(8, 64), nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x).chunk(2, -1)
        return self.head(self.second(a * b.sigmoid()).relu().mean(1))


class Joined(nn.Module):
    """A concatenation of unlike branches, and a layer that adds to all of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.side, self.one, self.other = nn.Conv2d(3, 48, 3), nn.Conv2d(3, 32, 3), nn.Conv2d(3, 16, 3)
        self.head = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.side(x) + torch.cat([self.one(x), self.other(x)], 1)
        return self.head(joined.relu().mean((2, 3)))


def images(network: nn.Module) -> tuple[int, ...]:
    return (5, 8) if isinstance(network, GatedTokens) else (3, 8, 8)


@pytest.mark.parametrize(("network", "parts"), [(Gated(), 2), (Gated(4), 8), (GatedTokens(), 2)])
@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize(("largest", "left"), [(0.4, 40), (0.75, 16)])
def test_a_layer_that_is_split_loses_no_more_than_the_largest_cut(
    network: nn.Module, parts: int, scope: str, largest: float, left: int
) -> None:
    cut = copy.deepcopy(network).eval()
    signature = signed(cut, *images(network))
    group = next(one for one in prunable_groups(cut, signature) if one.root == "first")
    assert (group.channels, group.parts) == (64, parts)
    settings = PruneSettings(to_macs=0.5, scope=scope, largest_cut=largest, steps=6)  # type: ignore[arg-type]
    history = prune_until(cut, signature, settings, 8 // parts, lambda candidate: False)
    assert width(cut.first) == left and width(smallest(network, signature, settings, 8 // parts).first) == left
    again = apply_edits(copy.deepcopy(network), width_edits(cut, history, []), signature)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in cut.state_dict().items())


def width(layer: nn.Module) -> int:
    return layer.weight.shape[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("network", [Gated(), Gated(4), GatedTokens()])
def test_removing_channels_of_halves_does_what_silencing_them_does(network: nn.Module) -> None:
    """In three steps: where the halves begin moves with every one."""
    cut, silenced = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    signature = signed(cut, *images(network))
    with torch.no_grad():
        for layer in (cut.first, silenced.first):
            layer.weight *= torch.linspace(1, 2, 64).view(-1, *[1] * (layer.weight.ndim - 1))
    keep = ("second",) if "second" in {one.root for one in prunable_groups(cut, signature)} else ()
    settings = PruneSettings(to_macs=0.5, scope="local", largest_cut=0.75, steps=3, keep=keep)
    history = prune_until(cut, signature, settings, 1, lambda candidate: False)
    assert len(history) == 3
    there = list(range(64))
    for _, _, gone in history:
        there = [channel for place, channel in enumerate(there) if place not in set(gone)]
    lost = [channel for channel in range(64) if channel not in there]
    assert [channel for channel in lost if channel < 32] == [channel - 32 for channel in lost if channel >= 32]
    for module in (silenced.first, getattr(silenced, "norm", silenced.first)):
        module.weight.data[lost] = module.bias.data[lost] = 0
    x = torch.randn(2, *images(network))
    with torch.no_grad():
        torch.testing.assert_close(cut(x), silenced(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [GatedByNumber, GatedUnevenly, Shuffled, UsedTwice])
def test_a_layer_whose_channels_cannot_be_followed_is_left_whole(kind: type[Gated]) -> None:
    network = kind().eval()
    signature = signed(network, 3, 8, 8)
    assert "first" in lost_names(network, signature) and lost_names(network, signature, keep=("first",)) == []
    prune_until(network, signature, PruneSettings(to_macs=0.5, steps=4), 4, lambda candidate: False)
    assert network.first.out_channels == 64


def test_pieces_of_a_concatenation_are_cut_each() -> None:
    """One group of all 48 channels could take every channel of a branch."""
    network = Joined().eval()
    signature = signed(network, 3, 8, 8)
    assert [(one.root, one.channels, one.parts) for one in prunable_groups(network, signature)] == [
        ("one", 32, 1),
        ("other", 16, 1),
    ]
    with torch.no_grad():
        network.other.weight *= 1e-3
    prune_until(network, signature, PruneSettings(to_macs=0.5, steps=8), 4, lambda candidate: False)
    assert (network.one.out_channels, network.other.out_channels, network.side.out_channels) == (8, 4, 12)


def test_a_split_layer_reaches_the_budget_and_one_left_whole_is_remarked() -> None:
    data = torch.randn(200, 3, 8, 8), torch.arange(200) % 4
    state, context = opened(Gated().eval(), *data)
    after = STAGE.run(state, PruneSettings(to_macs=0.6, granularity=8), context)
    assert 0 < count_macs(after.torch.module, state.signature) <= 0.6 * count_macs(state.torch.module, state.signature)
    assert "remarks" not in after.notes
    said: list[str] = []
    state, context = opened(GatedByNumber().eval(), *data)
    after = STAGE.run(state, PruneSettings(to_macs=0.7, granularity=8), replace(context, log=said.append))
    assert any("channels of first apart" in one and "left whole" in one for one in after.notes["remarks"])
    assert any("channels of first apart" in one for one in said)
    with pytest.raises(BudgetMissed, match="no layer may lose channels .*channels of first apart"):
        STAGE.run(state, PruneSettings(to_macs=0.7, keep=("second",)), context)
