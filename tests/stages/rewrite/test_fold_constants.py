from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.device.runtimes import open_session
from edgekd.errors import InputError
from edgekd.stages.rewrite import STAGE
from edgekd.state import ModelState, OnnxForm

from .helpers import begin, rewritten, settings


def old_graph(path: Path) -> onnx.ModelProto:
    """Weights computed from constants, an identity, and a flattening by shape arithmetic, as older exporters write them."""
    weight = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["w", "two"], ["scaled"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Concat", ["minus_one", "twelve"], ["shape"], axis=0),
        helper.make_node("Reshape", ["same", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "scaled"], ["output"]),
    ]
    constants = {
        "w": weight,
        "two": np.float32(2),
        "minus_one": np.array([-1], np.int64),
        "twelve": np.array([12], np.int64),
    }
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "old",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 4])],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, str(path))
    return model


def test_what_is_constant_is_computed_once_in_standard_onnx(tmp_path: Path) -> None:
    old_graph(tmp_path / "old.onnx")
    state, context = _begun(tmp_path)
    after = rewritten(state, context, "fold-constants")
    assert isinstance(after.form, OnnxForm)
    folded = onnx.load(str(after.form.path))
    assert [node.op_type for node in folded.graph.node] == ["Reshape", "MatMul"]
    assert [entry.domain for entry in folded.opset_import] == [""] and folded.opset_import[0].version == 17
    onnx.checker.check_model(folded, full_check=True)
    x = np.random.default_rng(1).standard_normal((5, 3, 4)).astype(np.float32)
    both = [
        open_session("onnxruntime", path, 1).run({"x": x})["output"]
        for path in (tmp_path / "old.onnx", after.form.path)
    ]
    np.testing.assert_allclose(both[1], both[0], rtol=1e-6, atol=1e-6)
    assert after.notes["rewrites"][0]["about"] == "5 nodes became 2: 1 Concat, 1 Identity, 1 Mul went"
    again = rewritten(after, context, "fold-constants")
    assert again.notes["rewrites"][0]["about"] == "nothing in the graph is constant or without effect"


def _begun(folder: Path) -> tuple[ModelState, object]:
    from torch import nn

    state, context = begin(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), folder / "work", (3, 4))
    context.workdir.mkdir()
    return ModelState(state.signature, OnnxForm(folder / "old.onnx")), context


def test_int8_files_are_refused() -> None:
    with pytest.raises(InputError, match="the network is int8 by then; put rewrite before quantize"):
        STAGE.becomes(settings("fold-constants"), "int8")
