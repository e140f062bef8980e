import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.models.network import count_parameters
from edgekd.models.networks import NETWORKS
from edgekd.stages.prune import STAGE, PruneSettings
from edgekd.stages.prune.depth import Row, influences, order_of, rows_of
from edgekd.state import load_state, save_state

from .networks import convolutions, opened, part, signed
from .test_groups import transformer


class Residual(nn.Module):
    """Adds to what it is given; `strength` says how much."""

    def __init__(self, width: int, strength: float = 1.0) -> None:
        super().__init__()
        self.conv, self.strength = nn.Conv2d(width, width, 1), strength

    def forward(self, x: Tensor) -> Tensor:
        return x + self.strength * self.conv(x)


class Plain(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def tower(kind: type[Residual] = Residual) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = nn.Sequential(*(kind(8, strength) for strength in (1.0, 0.9, 0.1, 0.5, 1.0)))
    return nn.Sequential(nn.Conv2d(1, 8, 1), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()


def test_rows_are_blocks_of_one_class_that_add_and_keep_the_shape() -> None:
    names = ("1.0", "1.1", "1.2", "1.3", "1.4")
    assert rows_of(tower(), signed(tower(), 1, 4, 4)) == [Row(names, names[1:4])]
    assert rows_of(tower(), signed(tower(), 1, 4, 4), keep=("1.2.conv",))[0].removable == ("1.1", "1.3")
    assert rows_of(tower(), signed(tower(), 1, 4, 4), keep=("1",)) == []
    assert rows_of(tower(Plain), signed(tower(Plain), 1, 4, 4)) == []
    assert rows_of(convolutions(), signed(convolutions(), 1, 6, 6)) == []
    network = transformer(depth=4)
    assert [row.removable for row in rows_of(network, signed(network, 3, 8, 8))] == [("blocks.1", "blocks.2")]


@pytest.mark.parametrize(("name", "shape"), [("mobilenet-v2", (3, 32, 32)), ("resnet8", (3, 32, 32))])
def test_blocks_that_change_the_shape_stay(name: str, shape: tuple[int, ...]) -> None:
    network = NETWORKS[name]().eval()
    rows = rows_of(network, signed(network, *shape))
    found = [module for row in rows for module in row.removable]
    assert bool(found) is (name == "mobilenet-v2")
    seen: dict[str, bool] = {}
    for one in found:
        network.get_submodule(one).register_forward_hook(
            lambda _m, given, made, one=one: seen.__setitem__(one, given[0].shape == made.shape)
        )
    network(torch.randn(2, *shape))
    assert len(seen) == len(found) and all(seen.values())


def test_torchs_own_encoder_layers_can_go() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)
    network = nn.Sequential(encoder, nn.Flatten(), nn.Linear(40, 2)).eval()
    assert [row.removable for row in rows_of(network, signed(network, 5, 8))] == [("0.layers.1",)]


def test_influence_is_one_minus_the_mean_cosine_of_what_goes_in_and_out() -> None:
    network, images = tower(), torch.randn(150, 1, 4, 4)
    found = influences(network, ["1.1", "1.2"], part(signed(network, 1, 4, 4), images))
    with torch.no_grad():
        x = network[1][0](network[0](images))
        y = network[1][1](x)
    wanted = 1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    assert found["1.1"] == pytest.approx(float(wanted.mean()), abs=1e-5) and found["1.2"] < found["1.1"]
    with torch.no_grad():
        network[0].weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"the block 1\.1 makes or is given NaN"):
        influences(network, ["1.1"], part(signed(tower(), 1, 4, 4), images))


def test_no_row_loses_more_than_its_share() -> None:
    rows = [Row(("a0", "a1", "a2", "a3"), ("a1", "a2")), Row(("b0", "b1", "b2"), ("b1",))]
    influence = {"a1": 0.2, "a2": 0.1, "b1": 0.3}
    assert order_of(rows, influence, 0.75) == ["a2", "a1", "b1"]
    assert order_of(rows, influence, 0.25) == ["a2"]


def dropped(state: Any, context: Context, **settings: Any) -> tuple[Any, list[str]]:
    lines: list[str] = []
    chosen = PruneSettings.model_validate({"granularity": 4, **settings})
    STAGE.check(chosen, state, context)
    return STAGE.run(state, chosen, replace(context, log=lines.append)), lines


def test_the_least_influential_blocks_go_until_the_budget_is_met(tmp_path: Path) -> None:
    state, context = opened(tower(), torch.randn(200, 1, 4, 4), torch.arange(200) % 3)
    after, lines = dropped(state, context, to_parameters=0.85, axes=["depth"])
    assert after.notes["dropped"] == ["1.2"] and after.notes["parameters_share"] <= 0.85
    assert lines[0].startswith("prune: block 1.2 goes, influence 0.0") and "1.3 stays" in lines[1]
    save_state(after, tmp_path)
    images = torch.randn(2, 1, 4, 4)
    without = copy.deepcopy(state.torch.module)
    without[1] = nn.Sequential(*(without[1][place] for place in (0, 1, 3, 4)))
    with torch.no_grad():
        torch.testing.assert_close(load_state(tmp_path, state.torch.base).torch.module(images), without(images))


def test_widths_do_what_the_next_block_would_overdo() -> None:
    state, context = opened(transformer(depth=4), torch.randn(200, 3, 8, 8), torch.arange(200) % 10)
    whole = count_parameters(state.torch.module)
    after, _ = dropped(state, context, to_parameters=0.7, axes=["depth", "mlp"])
    assert len(after.notes["dropped"]) == 1 and [edit["kind"] for edit in after.torch.edits] == [
        "drop-branches",
        "prune",
    ]
    assert 0.6 < count_parameters(after.torch.module) / whole <= 0.7
    assert after.torch.module.blocks[0].norm1.normalized_shape == (32,)


def test_a_depth_out_of_reach_says_why() -> None:
    state, context = opened(tower(), torch.randn(200, 1, 4, 4), torch.arange(200) % 3)
    with pytest.raises(
        BudgetMissed, match=r"\(the first and the last of a row stay\); raise to_parameters or largest_cut"
    ):
        dropped(state, context, to_parameters=0.1, axes=["depth"])


def test_costs_of_channels_say_nothing_of_blocks() -> None:
    with pytest.raises(ValidationError, match="latency_aware ranks channels, and axes cuts none of them"):
        PruneSettings(to_macs=0.5, axes=("depth",), latency_aware=True)


def test_depth_of_a_network_without_such_blocks_is_refused() -> None:
    state, context = opened(convolutions(), torch.randn(200, 1, 6, 6), torch.arange(200) % 4)
    with pytest.raises(InputError, match="axes: this network has no depth that may be cut"):
        dropped(state, context, to_parameters=0.5, axes=["depth"])
