"""A model becomes the first state; a run directory is a model too, and a stranger's one runs nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekd.errors import InputError, StageError
from edgekd.files import digest
from edgekd.models.signature import TensorSpec
from edgekd.models.source import SOURCE, Opening, keep_source, open_model
from edgekd.state import ModelState, OnnxForm, save_state

ROW = (TensorSpec(name="x", shape=("batch", 4)),)
BUILD = "def build():\n    return nn.Sequential(nn.Linear(4, 3), nn.{})\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder: from there modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def forget(*names: str) -> None:
    for name in names:
        sys.modules.pop(name, None)


def finished_run(folder: Path, model: Path, opening: Opening, *states: ModelState, data: str | None = None) -> Path:
    """Write what a finished run leaves, of these states."""
    keep_source(model, opening, data, folder)
    keys = [digest([number, str(model)]) for number, _ in enumerate(states)]
    for key, state in zip(keys, states, strict=True):
        stage = folder / "stages" / f"stage-{key[:16]}"
        stage.mkdir(parents=True)
        save_state(state, stage)
    (folder / "report.json").write_text(json.dumps({"stages": [{"key": key} for key in keys]}))
    return folder


def plain_run(folder: Path) -> Path:
    model = folder / "net.pt"
    torch.save(nn.Sequential(nn.Linear(4, 3)), model)
    return finished_run(folder / "run", model, Opening(inputs=ROW), open_model(model, Opening(inputs=ROW)).state)


def weights_run(folder: Path) -> tuple[Path, Opening]:
    """Return the run directory of a file of weights, and what it takes to open it."""
    (folder / "payload.py").write_text("from torch import nn\nopen('marker', 'w')\n" + BUILD.format("ReLU()"))
    model = folder / "weights.pt"
    torch.save(nn.Sequential(nn.Linear(4, 3)).state_dict(), model)
    opening = Opening(trust=("my_package",), factory="payload:build", inputs=ROW)
    run = finished_run(folder / "run", model, opening, open_model(model, opening).state)
    forget("payload")
    (folder / "marker").unlink()
    return run, opening


def change(run: Path, **changes: object) -> None:
    content = json.loads((run / SOURCE).read_text())
    (run / SOURCE).write_text(json.dumps({**content, **changes}))


def test_a_run_directory_names_no_code(here: Path) -> None:
    run, opening = weights_run(here)
    with pytest.raises(InputError, match="give --trust my_package --model payload:build again"):
        open_model(run, Opening())
    assert "payload" not in sys.modules and not (here / "marker").exists()
    again = open_model(run, Opening(trust=opening.trust, factory=opening.factory))
    assert again.state.signature.inputs == ROW and (here / "marker").exists()
    forget("payload")


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "payload:build"},
        {"file": "../../weights.pt"},
        {"file": "/etc/hostname"},
        {"file": "link.pt"},
        {"file": 3},
        {"data": 3},
        {"trust": None},
        {"factory": "payload:build"},
        {"trust": ["payload"]},
    ],
)
def test_a_crafted_run_directory_is_refused(here: Path, changes: dict[str, object]) -> None:
    run = plain_run(here)
    (here / "payload.py").write_text("open('marker', 'w')\n")
    (run / "source" / "link.pt").symlink_to(here / "net.pt")
    open_model(run, Opening())
    change(run, **changes)
    with pytest.raises(InputError):
        open_model(run, Opening())
    assert "payload" not in sys.modules and not (here / "marker").exists()


def test_a_stored_stage_names_no_code_and_lies_in_its_folder(here: Path) -> None:
    run = plain_run(here)
    (state,) = (run / "stages").glob("*/state.json")
    content = json.loads(state.read_text())
    content["signature"]["metric"] = "payload:build"
    state.write_text(json.dumps(content))
    with pytest.raises(StageError, match="names no code"):
        open_model(run, Opening())
    (run / "report.json").write_text(json.dumps({"stages": [{"key": "/../../net*"}]}))
    with pytest.raises(InputError, match="no hash"):
        open_model(run, Opening())


def linear_onnx(path: Path, *, external: bool = False) -> Path:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [weight],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, str(path), save_as_external_data=external, location="w.bin", size_threshold=0)
    return path


def test_external_data_of_a_stored_stage_lie_in_its_folder(here: Path) -> None:
    model = linear_onnx(here / "model.onnx")
    run = finished_run(here / "run", model, Opening(), open_model(model, Opening()).state)
    (stored,) = (run / "stages").glob("*/model.onnx")
    crafted = onnx.load(str(linear_onnx(here / "other.onnx", external=True)), load_external_data=False)
    crafted.graph.initializer[0].external_data[0].value = "../../../w.bin"
    stored.write_bytes(crafted.SerializeToString())
    content = json.loads((stored.parent / "state.json").read_text())
    (stored.parent / "state.json").write_text(json.dumps({**content, "files": {}}))
    with pytest.raises(InputError, match="outside the model's folder"):
        open_model(run, Opening())


def test_external_data_are_kept_with_their_model(here: Path) -> None:
    (here / "away").mkdir()
    model = linear_onnx(here / "away" / "model.onnx", external=True)
    run = finished_run(here / "run", model, Opening(), open_model(model, Opening()).state)
    (here / "away").rename(here / "gone")
    assert open_model(run, Opening()).state.signature.inputs[0].shape == ("batch", 4)


def test_the_last_network_of_a_run_is_found(here: Path) -> None:
    run = plain_run(here)
    first = open_model(run, Opening()).state
    int8 = first.after("quantize", OnnxForm(linear_onnx(here / "m.onnx"), "int8"), {})
    run = finished_run(here / "other", here / "net.pt", Opening(inputs=ROW), first, int8)
    assert isinstance(open_model(run, Opening()).state.form, OnnxForm)
    assert open_model(run, Opening(), network=True).state.form.kind == "torch"


def test_an_edited_factory_is_another_model(here: Path) -> None:
    model = here / "weights.pt"
    torch.save(nn.Sequential(nn.Linear(4, 3)).state_dict(), model)
    identities = []
    for name in ("ReLU()", "ReLU()", "Tanh()"):
        (here / "nets.py").write_text("from torch import nn\n" + BUILD.format(name))
        forget("nets")
        identities.append(open_model(model, Opening(factory="nets:build", inputs=ROW)).identity)
    forget("nets")
    assert identities[0] == identities[1] != identities[2]


def test_a_network_in_memory_is_checked_like_a_file() -> None:
    network = nn.Linear(4, 3)
    half = open_model(network.bfloat16(), Opening(inputs=ROW))
    assert half.state.torch.module.weight.dtype == torch.float32
    network.bias.data[0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite weights in bias"):
        open_model(network, Opening(inputs=ROW))


def test_inputs_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="different names"):
        open_model(nn.Linear(4, 3), Opening(inputs=(*ROW, *ROW)))
