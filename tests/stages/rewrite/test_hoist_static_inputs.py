from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekd.context import Context
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError, StageError
from edgekd.evaluate import run_onnx
from edgekd.models.onnx_graph import node_macs
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.quantize import STAGE as QUANTIZE
from edgekd.stages.quantize import QuantizeSettings
from edgekd.stages.rewrite.hoisting import hoist
from edgekd.state import ModelState, OnnxForm

from .helpers import begin, rewritten, settings

ONCE = {"kind": "hoist-static-inputs", "once": ["user"]}


class Scorer(nn.Module):
    """20 features of a user and 30 of an item, scored together."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(50, 64), nn.Linear(64, 4)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.head(self.hidden(torch.cat([user, item], 1)).relu())


class Towers(nn.Module):
    """A tower of the user's own, fragments in a wrong order, a concatenation that is also added, and another below."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tower, self.hidden, self.deep, self.head = (
            nn.Linear(6, 8),
            nn.Linear(20, 20),
            nn.Linear(28, 8),
            nn.Linear(8, 4),
        )

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        seen = self.tower(user).relu()
        both = torch.cat([user[:, :2], item, seen, user[:, 2:4]], 1)
        mixed = self.hidden(both).relu() + both
        return self.head(self.deep(torch.cat([mixed, seen], 1)).relu() * seen)


class Maps(nn.Module):
    """A map that is the same for all frames, beside the frames; tokens with their width last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.tokens, self.head = nn.Conv2d(5, 6, 3, padding=1), nn.Linear(11, 8), nn.Linear(8, 4)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        y = self.conv(torch.cat([user, item], 1)).relu()
        rows = torch.cat(
            [y.flatten(2).transpose(1, 2), user.flatten(2).transpose(1, 2), item.flatten(2).transpose(1, 2)], 2
        )
        return self.head(self.tokens(rows).mean(1))


CASES: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "scorer": (Scorer, ((20,), (30,))),
    "towers": (Towers, ((6,), (8,))),
    "maps": (Maps, ((2, 4, 4), (3, 4, 4))),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The networks as ONNX, each written once."""
    folder = tmp_path_factory.mktemp("files")
    for name in CASES:
        state, _ = _network(name, folder)
        write_onnx(state.torch.module, state.signature, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in CASES}


def _network(name: str, folder: Path) -> tuple[ModelState, Context]:
    network, shapes = CASES[name]
    return begin(network(), folder, *shapes, names=("user", "item"))


def start(name: str, folder: Path, files: dict[str, Path]) -> tuple[ModelState, Context]:
    state, context = _network(name, folder)
    return replace(state, form=OnnxForm(files[name])), context


@pytest.mark.parametrize("name", list(CASES))
def test_one_static_input_serves_many_samples(name: str, tmp_path: Path, files: dict[str, Path]) -> None:
    state, context = start(name, tmp_path, files)
    after = rewritten(state, context, ONCE)
    assert isinstance(after.form, OnnxForm) and after.notes["rewrites"][0]["kept"]
    sessions = [open_session("onnxruntime", path, 1) for path in (files[name], after.form.path)]
    given = state.signature.random_inputs(7)
    once = {**given, "user": given["user"][:1]}
    wanted = sessions[0].run({**given, "user": np.repeat(given["user"][:1], 7, 0)})
    np.testing.assert_allclose(
        sessions[1].run(once)["output"], wanted["output"], rtol=0, atol=1e-5 * np.abs(wanted["output"]).max()
    )
    assert {info.name: info.shape[0] for info in sessions[1].inputs} == {"user": 1, "item": "batch"}


def test_every_sample_of_a_part_has_its_own_static_input(tmp_path: Path, files: dict[str, Path]) -> None:
    """Scores of a data set, where users differ from row to row, are those of the network."""
    state, context = start("scorer", tmp_path, files)
    after = rewritten(state, context, ONCE)
    assert isinstance(after.form, OnnxForm)
    part = context.parts.evaluation
    before = run_onnx(files["scorer"], part, 1)["output"]
    np.testing.assert_allclose(run_onnx(after.form.path, part, 1)["output"], before, rtol=0, atol=1e-5)


def test_the_work_that_is_saved_is_what_was_predicted(tmp_path: Path, files: dict[str, Path]) -> None:
    """20 static and 30 varying features, 300 candidates: 300 * 50 / (20 + 300 * 30) = 1.66."""
    state, context = start("scorer", tmp_path, files)
    after = rewritten(state, context, ONCE)
    (note,) = after.notes["rewrites"]
    (predicted,) = note["predicted"].values()
    assert round(predicted, 2) == 1.66
    assert isinstance(after.form, OnnxForm)
    model = onnx.load(str(after.form.path))
    counted = [macs for node, macs in node_macs(model, 300, {"user": 1}) if node.op_type in ("Gemm", "MatMul")]
    assert sum(macs or 0 for macs in counted[:2]) == 64 * (20 + 300 * 30)
    assert note["macs"] == [300 * (50 * 64 + 64 * 4), 64 * (20 + 300 * 30) + 300 * 64 * 4]
    assert note["candidates"] == 300 and note["latency"].startswith("not measured")


def test_parts_stay_contiguous_and_are_read_once(tmp_path: Path, files: dict[str, Path]) -> None:
    found = hoist(onnx.load(str(files["towers"])), ["user"])
    assert [(one.once, one.many) for one in found.splits] == [(12, 8), (8, 20)]
    assert len(found.whole) == 1  # the user's tower
    layers = [node for node in found.model.graph.node if node.op_type in ("Gemm", "MatMul")]
    assert len(layers) == 2 * 2 + 2


def test_quantized_afterwards_it_still_takes_one_static_input(tmp_path: Path, files: dict[str, Path]) -> None:
    state, context = start("scorer", tmp_path, files)
    after = rewritten(state, context, ONCE)
    (tmp_path / "int8").mkdir()
    quantized = QUANTIZE.run(
        after, QuantizeSettings(calibrators=("min-max",)), replace(context, workdir=tmp_path / "int8")
    )
    assert isinstance(quantized.form, OnnxForm) and quantized.form.precision == "int8"
    session = open_session("onnxruntime", quantized.form.path, 1)
    given = state.signature.random_inputs(9)
    assert session.run({**given, "user": given["user"][:1]})["output"].shape == (9, 4)


class Apart(nn.Module):
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return user[:, :4] + item[:, :4]


def test_a_network_that_multiplies_nothing_static_says_so(tmp_path: Path, files: dict[str, Path]) -> None:
    state, context = begin(Apart(), tmp_path, (20,), (30,), names=("user", "item"))
    after = rewritten(state, context, ONCE)
    assert after.notes["rewrites"][0]["about"] == "no layer works on user alone, or on a concatenation with it"
    assert isinstance(after.form, OnnxForm)


@pytest.mark.parametrize(
    ("once", "words"),
    [(["users"], "no input users; the inputs are user, item"), (["user", "item"], "once names all inputs")],
)
def test_wrong_names(once: list[str], words: str, tmp_path: Path, files: dict[str, Path]) -> None:
    state, context = start("scorer", tmp_path, files)
    with pytest.raises(InputError, match=words):
        rewritten(state, context, {**ONCE, "once": once})


def test_a_fixed_batch_and_control_flow_are_refused(tmp_path: Path, files: dict[str, Path]) -> None:
    model = onnx.load(str(files["scorer"]))
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(InputError, match="the batch of user, item is fixed"):
        hoist(model, ["user"])
    model = onnx.load(str(files["scorer"]))
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body))
    with pytest.raises(InputError, match="the graph has control flow"):
        hoist(model, ["user"])


def test_networks_before_files(tmp_path: Path, files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="fold-batch-norm works on the torch network"):
        settings(ONCE, "fold-batch-norm")


class Normed(nn.Module):
    """What a static input is divided by depends on the whole batch, so that no sample is alone."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (user.sum(0, keepdim=True) @ torch.ones(20, 4)) + item[:, :4]


def test_a_network_whose_samples_are_not_alone_is_caught(tmp_path: Path, files: dict[str, Path]) -> None:
    state, context = begin(Normed(), tmp_path, (20,), (30,), names=("user", "item"))
    with pytest.raises(StageError, match="of the largest output off for 300 samples of one user"):
        rewritten(state, context, ONCE)


def test_signatures_have_many_orders(tmp_path: Path, files: dict[str, Path]) -> None:
    """The varying input may come first."""

    class Turned(Scorer):
        def forward(self, item: Tensor, user: Tensor) -> Tensor:
            return super().forward(user, item)

    state, context = begin(Turned(), tmp_path, (30,), (20,), names=("item", "user"))
    after = rewritten(state, context, ONCE)
    assert len(after.notes["rewrites"][0]["predicted"]) == 1
