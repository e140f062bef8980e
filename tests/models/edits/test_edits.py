import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.models.edits import apply_edits
from edgekd.models.edits.branches import drop_edit
from edgekd.models.edits.heads import heads_edit
from edgekd.models.network import learn_outputs
from edgekd.models.networks import NETWORKS
from edgekd.models.signature import Signature, TensorSpec
from edgekd.state import Base, ModelState, TorchForm, load_state, save_state

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3, 8, 8)),))


def transformer() -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS["vit"](image_size=8, dim=32, depth=3, heads=4, mlp_dim=64).eval()


def test_a_network_without_a_block_saves_and_loads(tmp_path: Path) -> None:
    network = transformer()
    images, without = torch.randn(2, 3, 8, 8), copy.deepcopy(network)
    without.blocks = nn.Sequential(network.blocks[0], network.blocks[2])  # type: ignore[index]
    edits = (drop_edit(["blocks.1"], "identity"),)
    edited = apply_edits(copy.deepcopy(network), edits, SIGNATURE)
    base = Base(transformer, "0")
    save_state(ModelState(learn_outputs(network, SIGNATURE), TorchForm(base, edited, edits)), tmp_path)
    loaded = load_state(tmp_path, base).torch.module
    with torch.no_grad():
        assert torch.equal(loaded(images), without(images))


def test_a_dropped_block_passes_on_what_comes_first_whatever_else_it_was_given() -> None:
    layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3).eval()
    apply_edits(layers, (drop_edit(["layers.1"], "identity"),), SIGNATURE)
    tokens, mask = torch.randn(2, 5, 8), torch.zeros(5, 5)
    with torch.no_grad():
        wanted = layers.layers[2](layers.layers[0](tokens, src_mask=mask), src_mask=mask)  # type: ignore[operator]
        torch.testing.assert_close(layers(tokens, mask=mask), wanted)


def test_numbers_of_heads_are_set_where_they_are_kept() -> None:
    network = apply_edits(transformer(), (heads_edit({"blocks.1.attention.heads": 3}),), SIGNATURE)
    assert [block.attention.heads for block in network.blocks] == [4, 3, 4]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "path", ["blocks.1.attention.scale", "blocks.1.attention.training", "blocks.1.attention.other"]
)
def test_nothing_else_of_a_module_can_be_set(path: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        apply_edits(transformer(), (heads_edit({path: 3}),), SIGNATURE)
