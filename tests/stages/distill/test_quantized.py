"""Distillation inside the quantized regime: a small U-Net that removes noise, its weights of few bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Dataset
from edgekd.models.networks.unet import UNet
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import ITSELF, STAGE, _teachers
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.stages.quantize.stage import STAGE as QUANTIZE
from edgekd.state import PreparedForm

from .networks import start

BOTTLENECK = {"kind": "bottleneck", "taps": {"encoder.0": "encoder.0"}}


def noisy() -> Dataset:
    generator = np.random.default_rng(0)
    clean = generator.random((48, 1, 4, 4)).repeat(4, 2).repeat(4, 3).astype(np.float32)
    return Dataset(inputs={"x": clean + 0.1 * generator.standard_normal(clean.shape).astype(np.float32)}, targets=clean)


@pytest.mark.parametrize(
    "losses",
    [
        [BOTTLENECK],
        [{**BOTTLENECK, "balance": "uncertainty"}],
        [{"kind": "hint", "taps": {"decoder.0": "decoder.0"}, "importance": "spatial-policy"}],
    ],
)
def test_a_fake_quantized_u_net_learns_from_itself_in_float(losses: list[dict[str, Any]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet((4, 8), num_classes=1, in_channels=1)
    state, context = start(network, noisy(), "regression", tmp_path)
    settings = QuantizeSettings(simulate=True, weights="int4", activations="float", scales="learned")
    prepared = QUANTIZE.run(state, settings, context)
    stage = DistillSettings.model_validate({"epochs": 2, "batch_size": 8, "task": 1.0, "losses": losses})
    STAGE.check(stage, state, context)
    made = STAGE.run(prepared, stage, context)
    assert isinstance(prepared.form, PreparedForm) and isinstance(made.form, PreparedForm)
    assert made.form.module.state_dict().keys() == prepared.form.module.state_dict().keys()
    shares = [name for name, _ in made.form.module.named_parameters() if name.endswith(".share")]
    assert shares and all((made.form.module.get_parameter(name) != 1).any() for name in shares)
    kind = losses[0]["kind"]
    assert [set(terms) for terms in made.notes["terms"]] == [{"task", kind}] * 2
    assert made.notes["terms"][1]["task"] < made.notes["terms"][0]["task"]


def test_the_teacher_is_the_network_in_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet((4, 8), num_classes=1, in_channels=1).eval()
    state, context = start(network, noisy(), "regression", tmp_path)
    prepared = QUANTIZE.run(state, QuantizeSettings(simulate=True, weights="int4", activations="float"), context)
    teacher = _teachers(prepared, context)[ITSELF]
    x = torch.from_numpy(noisy().inputs["x"][:4])
    answer = next(iter(teacher.answer({"x": x}, sample_ids=torch.arange(4)).outputs.values()))
    torch.testing.assert_close(answer, network(x))
    assert isinstance(prepared.form, PreparedForm)
    assert not torch.equal(answer, prepared.form.module(x))


class Head(nn.Module):
    """Linear layers that are long enough for groups."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 256))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).reshape(x.shape)


def test_the_zero_ratio_of_ternary_weights_is_watched(tmp_path: Path) -> None:
    torch.manual_seed(0)
    said: list[str] = []
    state, context = start(Head(), noisy(), "regression", tmp_path, log=said.append)
    prepared = QUANTIZE.run(state, QuantizeSettings(simulate=True, weights="ternary"), context)
    stage = DistillSettings.model_validate({"epochs": 2, "batch_size": 8, "losses": ["mse"]})
    made = STAGE.run(prepared, stage, context)
    ratios = made.notes["zero_ratio"]
    assert ratios.keys() == {"layers.1.weight", "layers.3.weight"}
    assert all(0.15 <= ratio <= 0.6 for ratio in ratios.values())
    assert sum("of a layer's weights are zero" in line for line in said) == 2
