"""Masks on a small network and real digits: exact, and held through whatever follows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgekd.context import Context
from edgekd.data import Dataset
from edgekd.errors import InputError
from edgekd.models.network import count_macs
from edgekd.models.zero_share import zero_share
from edgekd.request import Request, prepare
from edgekd.stages.distill import STAGE as DISTILL
from edgekd.stages.distill import DistillSettings
from edgekd.stages.distill.stage import without_teacher
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.export.prepared_writer import write_prepared
from edgekd.stages.mask import STAGE, MaskSettings
from edgekd.stages.prune import STAGE as PRUNE
from edgekd.stages.prune import PruneSettings
from edgekd.stages.quantize import STAGE as QUANTIZE
from edgekd.stages.quantize import QuantizeSettings
from edgekd.state import ModelState, OnnxForm, PreparedForm, load_state, save_state
from edgekd.target import load_target

WEIGHTS = ("0.weight", "3.weight", "8.weight")
SIMULATE = QuantizeSettings(simulate=True, calibrators=("min-max",), least_channels=1)
SHORT = {"batch_size": 64, "epochs": 1}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def given() -> tuple[ModelState, Context]:
    made = prepare(Request(network(), ("raspberry-pi-5",), data="digits", threads=1, device="cpu"))
    context, few = made.contexts[0], {"train": 320, "calibration": 64, "validation": 64}
    parts = replace(context.parts, **{name: getattr(context.parts, name).take(count) for name, count in few.items()})
    return made.opened.state, replace(context, parts=parts)


@pytest.fixture
def state(given: tuple[ModelState, Context]) -> ModelState:
    return given[0]


@pytest.fixture
def context(given: tuple[ModelState, Context], tmp_path: Path) -> Context:
    return replace(given[1], workdir=tmp_path)


@pytest.fixture(scope="module")
def simulated(given: tuple[ModelState, Context]) -> ModelState:
    return QUANTIZE.run(given[0], SIMULATE, given[1])


def mask(state: ModelState, context: Context, **settings: Any) -> ModelState:
    return STAGE.run(state, MaskSettings.model_validate({"sparsity": 0.7} | settings), context)


def zeros_of(state: ModelState) -> dict[str, torch.Tensor]:
    """Return where the weights of a torch or prepared form are zero."""
    module = state.form.module  # type: ignore[union-attr]
    return {name: module.get_parameter(name).detach() == 0 for name in WEIGHTS}


def share(zeros: dict[str, torch.Tensor]) -> float:
    return sum(int(one.sum()) for one in zeros.values()) / sum(one.numel() for one in zeros.values())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


TOTAL = 16 * 9 + 32 * 16 * 9 + 1280


def test_at_once_the_share_is_exact_and_the_state_saves_and_loads(
    state: ModelState, context: Context, tmp_path: Path
) -> None:
    made = mask(state, context)
    assert made.notes == {
        "zeros": round(0.7 * TOTAL), "zeros_share": pytest.approx(0.7, abs=1e-4), "masked": list(WEIGHTS), "dense": [],
    }  # fmt: skip
    assert sum(int(one.sum()) for one in zeros_of(made).values()) == round(0.7 * TOTAL)
    assert share(zeros_of(state)) == 0  # the state before is as it was
    (folder := tmp_path / "state").mkdir()
    save_state(made, folder)
    assert same(zeros_of(load_state(folder, state.torch.base)), zeros_of(made))


def test_what_stays_dense_is_named_with_the_reason(state: ModelState, context: Context) -> None:
    said: list[str] = []
    torch.manual_seed(0)
    body = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.Sequential(nn.Linear(4, 8), body, nn.Flatten(), nn.Linear(24, 2)).eval()
    with torch.no_grad():
        network[3].weight.add_(9.0)
    data = Dataset({"x": torch.randn(200, 3, 4).numpy()})
    made = prepare(Request(network, ("generic-x86",), data=data, threads=1))
    settings = MaskSettings(sparsity=0.3, keep=("1.linear1",))
    after = STAGE.run(made.opened.state, settings, replace(made.contexts[0], log=said.append))
    assert set(after.notes["dense"]) == {"1.self_attn.in_proj_weight", "1.linear1.weight", "3.weight"}
    for name, why in (("in_proj_weight", "only weights of"), ("linear1.weight", "keep"), ("3.weight", "least weights")):
        assert any(name in line and why in line for line in said), said


def test_layers_that_a_pattern_does_not_fit_stay_dense_and_are_named(state: ModelState, context: Context) -> None:
    said: list[str] = []
    made = STAGE.run(state, MaskSettings(pattern="2:4"), replace(context, log=said.append))
    assert made.notes["dense"] == ["0.weight"] and "0.weight stay dense: their inputs are no multiple of 4" in said[0]
    weight = made.torch.module.get_parameter("3.weight").detach().numpy()
    assert ((weight.reshape(32, 4, 4, 9) != 0).sum(2) == 2).all()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"optimizer": "adamw", "ema": 0.9},
        {"precision": "bfloat16", "ramp": 1.0},
        {"pattern": "2:4", "sparsity": None},
    ],
    ids=["momentum", "average", "bfloat16", "2:4"],
)
def test_a_ramp_ends_at_the_exact_share(state: ModelState, context: Context, more: dict[str, Any]) -> None:
    made = mask(state, context, **SHORT, **more)
    zeros = zeros_of(made)
    if "pattern" in more:
        zeros.pop("0.weight")
        assert share(zeros) == 0.5
    else:
        assert sum(int(one.sum()) for one in zeros.values()) == round(0.7 * TOTAL)
    assert made.notes["loss"][0] > 0
    trained = made.torch.module.get_parameter("8.weight")
    old = state.torch.module.get_parameter("8.weight")
    assert not torch.equal(trained[trained != 0], old[trained != 0])


def test_without_labels_the_network_before_is_the_teacher(state: ModelState, context: Context) -> None:
    unlabelled = replace(context.parts.train.dataset, targets=None)
    parts = replace(context.parts, train=replace(context.parts.train, dataset=unlabelled))
    made = mask(state, replace(context, parts=parts), **SHORT)
    assert set(made.notes["terms"][0]) == {"kl"} and share(zeros_of(made)) == pytest.approx(0.7, abs=1e-4)


def test_an_interrupted_ramp_goes_on_as_if_nothing_had_happened(
    state: ModelState, context: Context, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    here = replace(context, checkpoint=tmp_path / "checkpoint.pt")
    settings = {"batch_size": 64, "epochs": 3, "precision": "float32"}
    whole = mask(state, context, **settings)

    def say(message: str) -> None:
        if "epoch 2/3" in message:
            raise Killed

    with pytest.raises(Killed):
        mask(state, replace(here, log=say), **settings)
    again = mask(state, here, **settings)
    for name, tensor in whole.torch.module.state_dict().items():
        assert torch.equal(tensor, again.torch.module.state_dict()[name]), name


def weights_in(path: Path) -> list[np.ndarray]:
    """Return the rounded weights of an int8 file, in its order."""
    found = [numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer]
    return [one for one in found if one.dtype == np.int8 and one.ndim > 1]


@pytest.mark.parametrize("order", ["mask first", "mask in the graph"])
def test_sparsity_is_exact_after_training_in_the_rounded_graph_and_in_the_file(
    state: ModelState, simulated: ModelState, context: Context, tmp_path: Path, order: str
) -> None:
    distill = [
        DistillSettings.model_validate(SHORT | {"task": 1.0, "losses": []}),
        DistillSettings.model_validate(SHORT | {"adapt": 0.0}),
    ]
    if order == "mask first":
        made = QUANTIZE.run(mask(state, context, **SHORT), SIMULATE, context)
    else:
        made = mask(simulated, context, **SHORT)
    zeros = zeros_of(made)
    for settings in distill:
        made = DISTILL.run(made, settings, context)
    assert isinstance(made.form, PreparedForm) and same(zeros_of(made), zeros)
    assert share(zeros) == pytest.approx(0.7, abs=1e-4)
    assert same(zeros_of(made.floating()), zeros)
    write_prepared(made.form.module, made.signature, tmp_path / "int8.onnx")
    rounded = weights_in(tmp_path / "int8.onnx")
    wanted = {tuple(one.shape): one.numpy() for one in zeros.values()}
    assert len(rounded) == 3
    for weight in rounded:
        assert (weight[wanted[weight.shape]] == 0).all()
    counted = sum((one == 0).sum() for one in rounded) / TOTAL
    assert zero_share(onnx.load(str(tmp_path / "int8.onnx"))) == pytest.approx(counted)
    assert counted == pytest.approx(0.7, abs=0.001)  # what is left is large enough not to be rounded to zero


def test_a_mask_at_once_on_a_rounded_graph_sets_its_ranges_anew(simulated: ModelState, context: Context) -> None:
    made = mask(simulated, context)
    assert isinstance(made.form, PreparedForm) and isinstance(simulated.form, PreparedForm)
    assert made.form.simulation == simulated.form.simulation and share(zeros_of(made)) == pytest.approx(0.7, abs=1e-4)
    scales = [
        {name: one for name, one in form.module.state_dict().items() if name.endswith(".scale")}
        for form in (simulated.form, made.form)
    ]
    assert any(not torch.equal(one, scales[1][name]) for name, one in scales[0].items())


@pytest.mark.parametrize("symmetric", [True, False])
def test_static_rounding_keeps_the_zeros(state: ModelState, context: Context, symmetric: bool) -> None:
    runtime = context.runtime
    assert runtime.quantization is not None
    scheme = runtime.quantization.model_copy(update={"weight_symmetric": symmetric})
    target = context.target.model_copy(
        update={"runtime": {context.runtime_name: runtime.model_copy(update={"quantization": scheme})}}
    )
    settings = QuantizeSettings(calibrators=("min-max",), rounding=("least-output-error",), least_channels=1)
    masked = mask(state, context)
    made = QUANTIZE.run(masked, settings, replace(context, target=target))
    assert isinstance(made.form, OnnxForm)
    found = zero_share(onnx.load(str(made.form.path)))
    assert found is not None and 0.7 - 1e-4 <= found < 0.73
    dense = QUANTIZE.run(state, settings, replace(context, target=target))
    assert zero_share(onnx.load(str(dense.form.path))) < 0.1  # type: ignore[union-attr, operator]


def test_channels_are_removed_and_the_zeros_of_those_that_stay_too(
    state: ModelState, context: Context, tmp_path: Path
) -> None:
    masked = mask(state, context)
    pruned = PRUNE.run(masked, PruneSettings(to_macs=0.6, granularity=4), context)
    assert count_macs(pruned.torch.module, state.signature) < count_macs(state.torch.module, state.signature)
    before = zeros_of(pruned)
    assert before["3.weight"].numel() < 32 * 16 * 9 and 0.5 < share(before) < 0.75
    (folder := tmp_path / "state").mkdir()
    save_state(pruned, folder)
    assert same(zeros_of(load_state(folder, state.torch.base)), before)
    assert same(zeros_of(DISTILL.run(pruned, DistillSettings.model_validate(SHORT), context)), before)


def test_the_arm_from_scratch_has_the_same_mask(state: ModelState, context: Context) -> None:
    masked = mask(state, context)
    made = without_teacher(masked, DistillSettings.model_validate(SHORT), context, from_scratch=True)
    assert same(zeros_of(made), zeros_of(masked))


def test_the_file_of_a_masked_network_holds_its_zeros(state: ModelState, context: Context, tmp_path: Path) -> None:
    write_onnx(mask(state, context).torch.module, state.signature, tmp_path / "float.onnx")
    assert zero_share(onnx.load(str(tmp_path / "float.onnx"))) == pytest.approx(0.7, abs=1e-4)


def test_a_tied_weight_is_masked_once(context: Context) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(1)
            return self.head(torch.relu(self.second(torch.relu(self.first(x)))))

    torch.manual_seed(0)
    made = prepare(Request(Tied().eval(), ("raspberry-pi-5",), data="digits", threads=1, device="cpu"))
    state = made.opened.state
    for form in (state, QUANTIZE.run(state, SIMULATE, context)):
        masked = mask(form, context, **SHORT)
        assert masked.notes["masked"] == ["first.weight", "head.weight"]
        float_module = masked.floating().torch.module
        assert torch.equal(float_module.get_parameter("second.weight"), float_module.get_parameter("first.weight"))
        assert masked.notes["zeros"] == round(0.7 * (64 * 64 + 640))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": ["9"]}, "no module 9"),
        ({"pattern": "8:160", "sparsity": None}, "none has them"),
        ({"sparsity": 0.9999}, "leaves a layer without a weight"),
        ({"keep": ["0", "3", "8"]}, "beside 0, 3, 8"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    state: ModelState, context: Context, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        STAGE.check(MaskSettings.model_validate({"sparsity": 0.7} | settings), state, context)


def test_the_price_and_the_gain_are_said_beforehand(context: Context) -> None:
    assert "onnxruntime multiplies zeros too" in STAGE.describe(MaskSettings(sparsity=0.7), context)
    jetson = replace(context, target=load_target("jetson-orin-nano"), runtime_name="tensorrt")
    assert "sparse tensor cores of Ampere" in STAGE.describe(MaskSettings(pattern="2:4"), jetson)
    assert "tensorrt multiplies zeros too" in STAGE.describe(MaskSettings(pattern="4:8"), jetson)


def test_only_a_ramp_trains(state: ModelState, context: Context) -> None:
    assert STAGE.learns(MaskSettings(sparsity=0.5, epochs=1)) and not STAGE.learns(MaskSettings(sparsity=0.5))
    few = replace(context, parts=replace(context.parts, train=context.parts.train.take(4)))
    STAGE.check(MaskSettings(sparsity=0.5), state, few)
    with pytest.raises(InputError, match="samples are left to train on"):
        STAGE.check(MaskSettings(sparsity=0.5, epochs=1), state, few)
    trained, at_once = (STAGE.depends_on(MaskSettings(sparsity=0.5, epochs=one), context) for one in (1, 0))
    assert trained["data"] and trained["teacher"] and not at_once
