import copy

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.networks import NETWORKS
from edgekd.models.networks.vit import SelfAttention
from edgekd.stages.prune import PruneSettings
from edgekd.stages.prune.groups import Group, prunable_groups, tied_names
from edgekd.stages.prune.pruner import prune_until

from .networks import Branching, Tied, Twice, convolutions, signed


def transformer(depth: int = 2, heads: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS["vit"](image_size=8, dim=32, depth=depth, heads=heads, mlp_dim=64).eval()


class Stubborn(SelfAttention):
    """Splits into two heads, whatever its attribute says."""

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (2, -1)).transpose(1, 2)


def stubborn() -> nn.Module:
    """Return a transformer of which no head goes as a whole."""
    network = transformer()
    for block in network.blocks:  # type: ignore[union-attr]
        block.attention.__class__ = Stubborn
    return network


@pytest.mark.parametrize("axis", ["hidden", "heads", "mlp"])
def test_only_the_wanted_axes_of_a_transformer_are_cut(axis: str) -> None:
    network = transformer()
    signature = signed(network, 3, 8, 8)
    settings = PruneSettings(to_macs=0.5, axes=(axis,), steps=1, scope="local", largest_cut=0.5)  # type: ignore[arg-type]
    prune_until(network, signature, settings, 8, lambda candidate: False)
    for block in network.blocks:
        widths = {
            "hidden": block.norm1.normalized_shape[0],
            "heads": block.attention.query.out_features,
            "mlp": block.mlp[0].out_features,
        }
        assert widths == {"hidden": 32, "heads": 32, "mlp": 64} | {axis: 32 if axis == "mlp" else 16}
        assert block.attention.heads == (1 if axis == "heads" else 2)
        assert block.attention.value.out_features == widths["heads"]


def test_removing_features_of_heads_does_what_silencing_them_does() -> None:
    network = stubborn()
    signature = signed(network, 3, 8, 8)
    silenced = copy.deepcopy(network)
    settings = PruneSettings(to_macs=0.5, axes=("heads",), steps=1, scope="local", largest_cut=0.5)
    history = prune_until(network, signature, settings, 8, lambda candidate: False)
    for name, _, features in history:
        attention = silenced.get_submodule(name.rpartition(".")[0])
        assert len([one for one in features if one < 16]) == len([one for one in features if one >= 16]) == 8
        for layer in (attention.query, attention.key, attention.value):
            layer.weight.data[features] = layer.bias.data[features] = 0
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(images), silenced(images), rtol=1e-4, atol=1e-5)


def test_groups_say_their_axis_and_parts() -> None:
    groups = prunable_groups(transformer(), signed(transformer(), 3, 8, 8))
    assert [(one.axis, one.channels, one.parts) for one in groups] == [
        ("hidden", 32, 1), ("mlp", 64, 1), ("heads", 32, 1), ("mlp", 64, 1), ("heads", 32, 1),
    ]  # fmt: skip
    assert [one.unit for one in groups if one.axis == "heads"] == [16, 16]
    fixed = prunable_groups(stubborn(), signed(stubborn(), 3, 8, 8))
    assert [(one.parts, one.unit) for one in fixed if one.axis == "heads"] == [(2, 1), (2, 1)]
    assert all(one.axis is None for one in prunable_groups(convolutions(), signed(convolutions(), 1, 6, 6)))


def test_axes_of_a_network_without_attention_are_refused() -> None:
    network = convolutions()
    with pytest.raises(
        InputError,
        match="axes: nothing of this network is heads that may be cut; it has no transformer's axes .an attention is three",
    ):
        prunable_groups(network, signed(network, 1, 6, 6), axes=("heads",))


@pytest.mark.parametrize(
    ("channels", "parts", "unit", "fits"),
    [(32, 1, 1, True), (16, 1, 1, False), (24, 1, 1, True), (64, 4, 1, False), (48, 1, 24, False), (96, 1, 24, True)],
)
def test_a_group_fits_the_granularity_where_a_multiple_of_it_is_left(
    channels: int, parts: int, unit: int, fits: bool
) -> None:
    assert Group("x", channels, ("x",), None, parts, unit).fits(16) is fits


def test_what_would_change_tied_weights_is_left_alone() -> None:
    network = Tied().eval()
    signature = signed(network, 7, dtype="int64", task="tokens")
    assert [one.root for one in prunable_groups(network, signature)] == ["up"]
    assert tied_names(network) == ["embedding", "head"]
    prune_until(network, signature, PruneSettings(to_macs=0.5), 8, lambda candidate: False)
    assert network.head.weight is network.embedding.weight and network.head.weight.shape == (20, 16)
    assert network.up.out_features == 8


def test_a_layer_that_runs_twice_is_cut_as_one() -> None:
    network = Twice().eval()
    signature = signed(network, 1, 6, 6)
    silenced = copy.deepcopy(network)
    settings = PruneSettings(to_macs=0.5, steps=1, scope="local", largest_cut=0.5, keep=("last",))
    ((name, _, cut),) = prune_until(network, signature, settings, 4, lambda candidate: False)
    assert name in ("first", "again") and network.first.out_channels == network.again.in_channels == 8
    for layer in (silenced.first, silenced.again):
        layer.weight.data[cut] = layer.bias.data[cut] = 0
    images = torch.randn(2, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(network(images), silenced(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("by_item", [True, False])
def test_branches_on_the_input_are_refused(by_item: bool) -> None:
    network = Branching(on_input=True, by_item=by_item).eval()
    with pytest.raises(InputError, match=r"dynamic control flow.*torch\.where or torch\.cond, or leave pruning out"):
        prunable_groups(network, signed(network, 1, 6, 6))


def test_branches_on_what_a_network_holds_are_none_of_the_input() -> None:
    network = Branching(on_input=False).eval()
    assert [one.root for one in prunable_groups(network, signed(network, 1, 6, 6))] == ["bright"]


class ByHand(SelfAttention):
    """An attention of two products and a softmax between them."""

    how = "@"

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        if self.how == "einsum":
            weights = torch.einsum("bhqd,bhkd->bhqk", query, key) * self.scale
            mixed = torch.einsum("bhqk,bhkd->bhqd", weights.softmax(dim=-1), value)
        elif self.how == "bmm":
            query, key, value = (one.flatten(0, 1) for one in (query, key, value))
            weights = torch.softmax(torch.bmm(query, key.transpose(1, 2)) * self.scale, dim=-1)
            mixed = torch.bmm(nn.functional.dropout(weights, 0.1, self.training), value).unflatten(0, (-1, self.heads))
        else:
            mask = torch.zeros(x.shape[1], x.shape[1])
            mixed = nn.functional.softmax(query @ key.transpose(-1, -2) * self.scale + mask, dim=-1) @ value
        return self.project(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("how", ["@", "einsum", "bmm"])
def test_an_attention_written_by_hand_is_one(how: str) -> None:
    network, known = transformer(), transformer()
    for block in network.blocks:  # type: ignore[union-attr]
        block.attention.__class__ = ByHand
        block.attention.how = how
    signature = signed(network, 3, 8, 8)
    ours, theirs = (prunable_groups(one, signature) for one in (network, known))
    shown = [sorted((str(one.axis), one.channels, one.parts, one.unit) for one in groups) for groups in (ours, theirs)]
    assert shown[0] == shown[1] and [one.unit for one in ours if one.axis == "heads"] == [16, 16]
    settings = PruneSettings(to_macs=0.5, axes=("heads",), steps=1, scope="local", largest_cut=0.5)
    prune_until(network, signature, settings, 8, lambda candidate: False)
    assert [block.attention.heads for block in network.blocks] == [1, 1]  # type: ignore[union-attr]


class Pooled(nn.Module):
    """Tokens weighed by a softmax of their product with a parameter: no attention, and nothing is left whole."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.query, self.head = nn.Linear(8, 32), nn.Parameter(torch.randn(8, 1)), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.einsum("btf,fo->bot", x, self.query).softmax(-1)
        return self.head((weights @ self.embed(x)).squeeze(1))


def test_a_softmax_between_products_without_three_layers_is_no_attention() -> None:
    network = Pooled().eval()
    assert [(one.root, one.axis) for one in prunable_groups(network, signed(network, 5, 8))] == [("embed", None)]
