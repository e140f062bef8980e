import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgekd.models.edits import apply_edits
from edgekd.models.network import count_macs
from edgekd.stages.prune import STAGE, PruneSettings

from .networks import opened
from .test_groups import transformer


class Stream(nn.Module):
    """A stream of 32 channels that many blocks read and add to; its channels weigh least and go first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Linear(8, 32), nn.Linear(32, 4)
        self.ups = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.downs = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        with torch.no_grad():
            for layer in (self.stem, *self.downs):
                layer.weight[:16] *= 1e-3
            self.head.weight[:, :16] *= 1e-3

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for up, down in zip(self.ups, self.downs, strict=True):
            x = x + down(up(x).relu())
        return self.head(x)


def test_the_last_cut_does_not_overshoot_where_another_one_is_nearer() -> None:
    said: list[str] = []
    state, context = opened(Stream().eval(), torch.randn(200, 8), torch.arange(200) % 4)
    settings = PruneSettings(to_macs=0.9, granularity=16, largest_cut=0.5)
    after = STAGE.run(state, settings, replace(context, log=said.append))
    share = count_macs(after.torch.module, state.signature) / count_macs(state.torch.module, state.signature)
    assert 0.85 < share <= 0.9 and after.notes["macs_share"] == round(share, 4) and "remarks" not in after.notes
    assert after.torch.module.stem.out_features == 32  # half of the stream would leave half of the MACs
    assert any("in place of the last one" in line for line in said)
    again = apply_edits(copy.deepcopy(state.torch.module), after.torch.edits, state.signature)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in after.torch.module.state_dict().items())


def test_several_multiples_take_the_place_of_one_cut() -> None:
    state, context = opened(Stream().eval(), torch.randn(200, 8), torch.arange(200) % 4)
    settings = PruneSettings(to_macs=0.7, granularity=16, largest_cut=0.5)
    after = STAGE.run(state, settings, context)
    assert 0.63 < after.notes["macs_share"] <= 0.7
    assert sorted(layer.out_features for layer in after.torch.module.ups) == [16, 16, 16, 32]


def test_heads_among_the_last_cuts_are_counted() -> None:
    """The edits tell the attention how many heads are left."""
    network = transformer(heads=4)
    with torch.no_grad():
        network.patches.weight[:16] *= 1e-3  # type: ignore[union-attr,operator,index]
        for block in network.blocks:  # type: ignore[union-attr]
            for layer in (block.attention.project, block.mlp[2]):  # type: ignore[union-attr,index]
                layer.weight[:16] *= 1e-3
    said: list[str] = []
    state, context = opened(network, torch.randn(200, 3, 8, 8), torch.arange(200) % 10)
    settings = PruneSettings(to_macs=0.93, granularity=8, axes=("hidden", "heads"), largest_cut=0.5)
    after = STAGE.run(state, settings, replace(context, log=said.append))
    assert any("in place of the last one" in line for line in said) and 0.84 < after.notes["macs_share"] <= 0.93
    again = apply_edits(copy.deepcopy(state.torch.module), after.torch.edits, state.signature)
    heads = [block.attention.heads for block in again.blocks]
    assert heads == [block.attention.query.out_features // 8 for block in again.blocks] and min(heads) < 4
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again(x), after.torch.module(x))
