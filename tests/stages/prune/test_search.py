from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.models.network import count_macs
from edgekd.stages.prune import STAGE, PruneSettings, search
from edgekd.stages.prune.search import far_apart, interpolated
from edgekd.state import ModelState, load_state, save_state

from .networks import convolutions, opened
from .test_groups import transformer


@pytest.fixture(scope="module")
def taught() -> tuple[ModelState, Context]:
    images = torch.randn(240, 3, 8, 8)
    network = transformer(depth=4, heads=4)
    with torch.no_grad():
        network.classifier.bias -= network(images).mean(0)  # type: ignore[union-attr,operator]
        labels = network(images)[:, :2].argmax(1)
    return opened(network, images, labels)


def searched(taught: tuple[ModelState, Context], **settings: Any) -> tuple[ModelState, list[str]]:
    state, context = taught
    lines: list[str] = []
    chosen = PruneSettings.model_validate({"to_macs": 0.6, "granularity": 8, "search": 3, **settings})
    STAGE.check(chosen, state, context)
    return STAGE.run(state, chosen, replace(context, log=lines.append)), lines


def test_the_best_shape_of_the_budget_stays(taught: tuple[ModelState, Context], tmp_path: Path) -> None:
    state, _ = taught
    after, lines = searched(taught)
    table = after.notes["search"]
    assert len(table) == 3 == len({tuple(row[axis] for axis in ("blocks", "hidden", "heads", "mlp")) for row in table})
    assert all(row["macs_share"] <= 0.6 and row["score"] >= 0 for row in table)
    assert after.notes["score"] == max(row["score"] for row in table) and after.notes["metric"] == "accuracy"
    share = count_macs(after.torch.module, state.signature) / count_macs(state.torch.module, state.signature)
    assert share == pytest.approx(after.notes["macs_share"], abs=1e-4)
    blocks = [block for block in after.torch.module.blocks if hasattr(block, "attention")]  # type: ignore[union-attr]
    assert len(blocks) == after.notes["blocks"]
    assert {block.attention.heads for block in blocks} == {after.notes["heads"]}
    assert {block.mlp[0].out_features for block in blocks} == {after.notes["mlp"]}
    assert {block.norm1.normalized_shape[0] for block in blocks} == {after.notes["hidden"]}
    assert sum("prune: shape" in line and "of the macs, accuracy" in line for line in lines) == 3
    save_state(after, tmp_path)
    loaded, images = load_state(tmp_path, state.torch.base).torch.module, torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(images), after.torch.module(images))


def test_a_seed_gives_one_result(taught: tuple[ModelState, Context]) -> None:
    settings = {"search": 1, "axes": ["mlp", "depth"], "importance": "random"}
    first, second = (searched(taught, **settings)[0] for _ in range(2))
    weights = first.torch.module.state_dict()
    assert first.notes == second.notes and set(first.notes["search"][0]) == {"blocks", "mlp", "macs_share", "score"}
    assert all(torch.equal(weights[name], tensor) for name, tensor in second.torch.module.state_dict().items())


def test_a_killed_search_goes_on(
    taught: tuple[ModelState, Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def until_killed(*given: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(given[-1])
        return distilled(*given)

    distilled = search._distilled
    whole, _ = searched(taught)
    state, context = taught
    here = state, replace(context, checkpoint=tmp_path / "prune.pt")
    monkeypatch.setattr(search, "_distilled", until_killed)
    with pytest.raises(KeyboardInterrupt):
        searched(here)
    trained.clear()
    after, lines = searched(here)
    assert trained == ["shape 3/3"] and sum("tried before" in line for line in lines) == 2
    assert after.notes == whole.notes
    weights = whole.torch.module.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in after.torch.module.state_dict().items())


def test_costs_that_are_linear_in_every_axis_are_interpolated_exactly() -> None:
    def cost(depth: float, width: float) -> float:
        return 3 + 2 * depth + 5 * depth * width

    corners = {(depth, width): cost(depth, width) for depth in (1.0, 0.5) for width in (1.0, 0.25)}
    for shape in ((1.0, 1.0), (0.75, 0.5), (0.5, 0.25), (0.6, 0.9)):
        assert interpolated(corners, shape) == pytest.approx(cost(*shape))


def test_shapes_are_far_apart_and_the_evenest_is_first() -> None:
    shapes = [(1.0, 0.2), (0.9, 0.3), (0.6, 0.6), (0.5, 0.7), (0.2, 1.0)]
    assert far_apart(shapes, 3) == [(0.6, 0.6), (1.0, 0.2), (0.2, 1.0)]
    assert far_apart(shapes, 9) == sorted(shapes, key=far_apart(shapes, 9).index) and len(far_apart(shapes, 9)) == 5


def test_a_network_that_is_no_transformer_is_refused() -> None:
    state, context = opened(convolutions(), torch.randn(200, 1, 6, 6), torch.arange(200) % 4)
    with pytest.raises(InputError, match="search: this network has no axes of a transformer"):
        STAGE.check(PruneSettings(to_macs=0.5, search=2), state, context)


def test_a_budget_below_every_shape_is_missed(taught: tuple[ModelState, Context]) -> None:
    with pytest.raises(BudgetMissed, match=r"cannot reach 1% of the macs: \d+\.\d% is left in the smallest shape"):
        searched(taught, to_macs=0.01)


def test_settings_that_contradict_a_search_are_refused() -> None:
    with pytest.raises(ValidationError, match="search tries whole shapes"):
        PruneSettings(to_macs=0.5, search=2, latency_aware=True)
    with pytest.raises(ValidationError, match="search_epochs needs search"):
        PruneSettings(to_macs=0.5, search_epochs=2)


def test_a_search_trains_and_a_cut_does_not(taught: tuple[ModelState, Context]) -> None:
    _, context = taught
    search, cut = PruneSettings(to_macs=0.5, search=2), PruneSettings(to_macs=0.5)
    assert STAGE.learns(search) and not STAGE.learns(cut)
    assert {"device", "precision"} <= set(STAGE.depends_on(search, context)) and STAGE.depends_on(search, context)[
        "data"
    ]
    assert "device" not in STAGE.depends_on(cut, context)
