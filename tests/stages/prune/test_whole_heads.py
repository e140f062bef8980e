import copy

import pytest
import torch
from torch import nn

from edgekd.models.edits import apply_edits
from edgekd.models.signature import Signature
from edgekd.stages.prune import PruneSettings
from edgekd.stages.prune.pruner import prune_until, width_edits
from edgekd.stages.prune.whole_heads import WholeHeads, head_norms, whole_heads

from .networks import convolutions, part, signed
from .test_groups import stubborn, transformer

HEADS = {"to_macs": 0.5, "axes": ("heads",), "steps": 1, "scope": "local", "largest_cut": 0.5}


def four_heads() -> tuple[nn.Module, Signature]:
    network = transformer(heads=4)
    return network, signed(network, 3, 8, 8)


def test_the_attribute_that_forward_obeys_is_found() -> None:
    network, signature = four_heads()
    first, second = whole_heads(network, signature)
    assert first == WholeHeads(
        "blocks.0.attention.query", "blocks.0.attention.key", "blocks.0.attention.value", "blocks.0.attention.project",
        4, 8, ("blocks.0.attention.heads",),
    )  # fmt: skip
    assert second.attributes == ("blocks.1.attention.heads",)
    assert network.blocks[0].attention.heads == 4 and network.blocks[0].attention.query.out_features == 32  # type: ignore[index,union-attr]


def test_an_attribute_that_nothing_obeys_is_none() -> None:
    network = stubborn()
    assert whole_heads(network, signed(network, 3, 8, 8)) == []
    assert whole_heads(convolutions(), signed(convolutions(), 1, 6, 6)) == []
    unnamed, signature = four_heads()
    for block in unnamed.blocks:  # type: ignore[union-attr]
        block.attention.heads = 4.0
        block.attention._split = lambda x: x.unflatten(2, (4, -1)).transpose(1, 2)
    assert whole_heads(unnamed, signature) == []


def test_the_heads_that_go_are_the_weakest_and_silencing_them_does_the_same() -> None:
    network, signature = four_heads()
    silenced = copy.deepcopy(network)
    with torch.no_grad():
        for one in (network, silenced):
            for block in one.blocks:  # type: ignore[union-attr]
                for layer in (block.attention.query, block.attention.key, block.attention.value):
                    layer.weight[8:16] *= 1e-2
                    layer.weight[24:] *= 1e-2
        for block in silenced.blocks:  # type: ignore[union-attr]
            for heads in (slice(8, 16), slice(24, 32)):
                block.attention.value.weight[heads] = block.attention.value.bias[heads] = 0
    base, found = copy.deepcopy(network), whole_heads(network, signature)
    history = prune_until(network, signature, PruneSettings(**HEADS), 8, lambda candidate: False)  # type: ignore[arg-type]
    assert [block.attention.heads for block in network.blocks] == [2, 2]  # type: ignore[union-attr]
    again = apply_edits(base, width_edits(network, history, found), signature)
    again.load_state_dict(network.state_dict())
    images = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(images), silenced(images), rtol=1e-4, atol=1e-5)
        assert torch.equal(again(images), network(images))


@pytest.mark.parametrize(("granularity", "left"), [(8, 2), (16, 2), (12, 3), (32, 4)])
def test_what_is_left_of_the_heads_is_a_multiple_too(granularity: int, left: int) -> None:
    network, signature = four_heads()
    prune_until(network, signature, PruneSettings(**HEADS), granularity, lambda candidate: False)  # type: ignore[arg-type]
    assert {block.attention.heads for block in network.blocks} == {left}  # type: ignore[union-attr]


def test_a_head_is_worth_the_mean_norm_of_its_output() -> None:
    network, signature = four_heads()
    images, seen = torch.randn(150, 3, 8, 8), []
    attention = network.blocks[1].attention  # type: ignore[index,union-attr]
    hook = attention.project.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    with torch.no_grad():
        network(images)
    hook.remove()
    wanted = torch.stack([seen[0][..., 8 * head : 8 * head + 8].square().sum(-1).sqrt().mean() for head in range(4)])
    norms = head_norms(network, whole_heads(network, signature), part(signature, images))
    torch.testing.assert_close(norms["blocks.1.attention.query"], wanted)
    network, signature = four_heads()
    with torch.no_grad():
        network.blocks[1].attention.value.weight[16:24] *= 1e-3  # type: ignore[index,union-attr]
        network.blocks[1].attention.query.weight[16:24] *= 100  # type: ignore[index,union-attr]
    settings = PruneSettings(**{**HEADS, "importance": "activation", "largest_cut": 0.25})  # type: ignore[arg-type]
    history = prune_until(network, signature, settings, 8, lambda candidate: False, part(signature, images))
    cut = {name: indices for name, _, indices in history}
    assert next(cut[name] for name in cut if name.startswith("blocks.1")) == list(range(16, 24))
