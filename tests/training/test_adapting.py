"""A fake-quantized graph in training: ranges and batch statistics follow at first, then they are held."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.models.exported_graph import is_adapting
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import STAGE
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.stages.quantize.stage import STAGE as QUANTIZE
from edgekd.state import Base, ModelState, PreparedForm, TorchForm
from edgekd.training.history import History

Teach = Callable[..., History]


@pytest.fixture(scope="module")
def prepared_cache() -> dict[str, ModelState]:
    return {}


@pytest.fixture
def prepared(context: Context, trained: nn.Module, prepared_cache: dict[str, ModelState]) -> ModelState:
    if "made" not in prepared_cache:
        state = ModelState(
            context.signature, TorchForm(Base(lambda: copy.deepcopy(trained), "0"), copy.deepcopy(trained))
        )
        settings = QuantizeSettings(simulate=True, calibrators=("min-max",))
        parts = replace(context.parts, calibration=context.parts.calibration.take(64))
        prepared_cache["made"] = QUANTIZE.run(state, settings, replace(context, parts=parts))
    return prepared_cache["made"]


def held(state: ModelState) -> dict[str, torch.Tensor]:
    """Return batch statistics, and the scales of activations."""
    assert isinstance(state.form, PreparedForm)
    kept = state.form.module.state_dict()
    return {name: tensor.clone() for name, tensor in kept.items() if "running_" in name or name.endswith(".scale")}


@pytest.mark.parametrize("adapt", [0.0, 0.7])
def test_ranges_and_statistics_follow_as_long_as_asked(context: Context, prepared: ModelState, adapt: float) -> None:
    few = replace(context, parts=replace(context.parts, train=context.parts.train.take(256)))
    settings = DistillSettings.model_validate(
        {"epochs": 1, "batch_size": 64, "adapt": adapt, "losses": ["kl", {"kind": "hint"}]}
    )
    before = held(prepared)
    made = STAGE.run(prepared, settings, few)
    assert isinstance(made.form, PreparedForm) and not is_adapting(made.form.module)
    after = held(made)
    moved = [name for name in before if "running_" in name and not torch.equal(before[name], after[name])]
    assert bool(moved) == (adapt > 0)
    weights = [name for name, _ in made.form.module.named_parameters()]
    old, new = prepared.form.module.state_dict(), made.form.module.state_dict()  # type: ignore[union-attr]
    assert any(not torch.equal(old[name], new[name]) for name in weights)
    assert set(made.notes["terms"][0]) == {"task", "kl", "hint"}
