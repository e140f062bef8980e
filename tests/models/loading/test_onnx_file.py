"""ONNX: external data come from the model's own folder, and only what ONNX Runtime runs is accepted."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekd.errors import InputError
from edgekd.models.loading import load_network, load_onnx

from .crafted import write_onnx

WEIGHT = np.arange(6, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the model's folder, with data in it and a secret beside it."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    (folder / "sub" / "w.bin").write_bytes(bytes(8) + WEIGHT.tobytes() + bytes(8))
    (tmp_path / "secret").write_bytes(bytes(24))
    return folder


def test_a_model_loads(good_files: dict[str, Path]) -> None:
    assert load_onnx(good_files["onnx"]).graph.node[0].op_type == "MatMul"


def test_a_model_is_no_network(good_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="not trained or pruned"):
        load_network(good_files["onnx"])
    with pytest.raises(InputError, match="not an ONNX model but a module file"):
        load_onnx(good_files["module"])


@pytest.mark.parametrize(
    "external",
    [
        {"location": "w.bin"},
        {"location": "w.bin", "offset": 0, "length": 24},
        {"location": "sub/w.bin", "offset": 8, "length": 24},
        {"location": "./sub/w.bin", "offset": 8},
    ],
)
def test_external_data_are_brought_in(external: dict[str, object], folder: Path) -> None:
    model = load_onnx(write_onnx(folder / "model.onnx", **external))
    tensor = model.graph.initializer[0]
    assert not tensor.external_data and tensor.data_location == onnx.TensorProto.DEFAULT
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), WEIGHT.reshape(2, 3))


def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    (folder / "link.bin").symlink_to("w.bin")
    load_onnx(write_onnx(folder / "model.onnx", location="link.bin"))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../secret", "outside the model's folder"),
        ("../../secret", "outside the model's folder"),
        ("sub/../../secret", "outside the model's folder"),
        ("sub/../w.bin", "outside the model's folder"),
        ("..\\secret", "outside the model's folder"),
        ("/etc/hostname", "no relative path"),
        ("C:\\secret", "no relative path"),
        ("\\\\server\\share\\secret", "no relative path"),
        ("", "no relative path"),
        ("w.bin\0.txt", "no relative path"),
        ("link", "outside the model's folder"),
        ("linked_folder/secret", "outside the model's folder"),
        ("sub", "no file there"),
        ("pipe", "no file there"),
        ("missing.bin", "no file there"),
    ],
)
def test_external_data_elsewhere_are_refused(location: str, message: str, folder: Path) -> None:
    (folder / "link").symlink_to("../secret")
    (folder / "linked_folder").symlink_to("..")
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match=message):
        load_onnx(write_onnx(folder / "model.onnx", location=location))


def test_the_secret_would_have_been_read(folder: Path) -> None:
    """The positive control: the tensor's size fits the secret, so only its place is wrong."""
    (folder / "secret").write_bytes((folder.parent / "secret").read_bytes())
    load_onnx(write_onnx(folder / "model.onnx", location="secret"))


@pytest.mark.parametrize(
    "external", [{"offset": 4}, {"length": 12}, {"length": 10**12}, {"offset": -8}, {"length": -24}, {"offset": "x"}]
)
def test_external_data_of_another_length_are_refused(external: dict[str, object], folder: Path) -> None:
    with pytest.raises(InputError):
        load_onnx(write_onnx(folder / "model.onnx", location="w.bin", **external))


def test_external_data_in_a_nested_graph_are_found(folder: Path) -> None:
    inner = onnx.load(write_onnx(folder / "inner.onnx", location="../secret"), load_external_data=False).graph
    outer = onnx.load(write_onnx(folder / "model.onnx"))
    outer.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    (folder / "model.onnx").write_bytes(outer.SerializeToString())
    with pytest.raises(InputError, match="outside the model's folder"):
        load_onnx(folder / "model.onnx")


def set_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 14


def set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 28


def set_old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 5


def add_context(model: onnx.ModelProto) -> None:
    node = helper.make_node("EPContext", ["x"], ["z"], domain="com.microsoft", ep_cache_context="../../engine.bin")
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def add_custom(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Thing", ["x"], ["z"], domain="my.domain"))


def break_graph(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "no_such_value"


def test_an_import_that_no_node_uses_is_no_need(good_files: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(good_files["onnx"])
    model.opset_import.append(helper.make_opsetid("org.pytorch.aten", 1))  # ONNX Runtime's optimizer leaves such ones
    onnx.save(model, tmp_path / "model.onnx")
    assert load_onnx(tmp_path / "model.onnx").graph.node


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_ir, "IR version 14; ONNX Runtime reads up to 13"),
        (set_opset, "opset 28; ONNX Runtime runs 7 to 26"),
        (set_old_opset, "opset 5"),
        (add_context, "EPContext"),
        (add_custom, "domain 'my.domain'"),
        (break_graph, "not a valid ONNX model"),
    ],
)
def test_models_that_onnx_runtime_could_not_run_are_refused(
    change: Callable[[onnx.ModelProto], None], message: str, good_files: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(good_files["onnx"])
    change(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=message):
        load_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float, good_files: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(good_files["onnx"])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((2, 3), value, np.float32), "w"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="NaN or infinite weights in w"):
        load_onnx(tmp_path / "model.onnx")


def test_a_mask_may_be_infinite(good_files: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(good_files["onnx"])
    model.graph.initializer.append(numpy_helper.from_array(np.float32([-np.inf]), "mask"))
    onnx.save(model, tmp_path / "model.onnx")
    load_onnx(tmp_path / "model.onnx")
