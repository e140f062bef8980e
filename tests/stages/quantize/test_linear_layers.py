import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgekd.stages.quantize.linear_layers import as_gemm

TOKENS = ["N", 3, 8]


def graph_of(nodes: list[onnx.NodeProto], shape: list[int | str], outputs: tuple[str, ...]) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = {"w": (8, 5), "b": (5,), "v": (8, 4), "c": (4,)}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(random.normal(size=size).astype(np.float32), n) for n, size in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def linear(weight: str, bias: str, output: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["x", weight], [f"{output}p"], f"{output}:product"),
        helper.make_node("Add", [bias, f"{output}p"], [output], f"{output}:sum"),
    ]


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_a_layer_over_tokens_becomes_a_gemm_and_computes_the_same() -> None:
    model = graph_of([*linear("w", "b", "y"), *linear("v", "c", "z")], TOKENS, ("y", "z"))
    changed = as_gemm(model, ())
    assert operators(changed) == ["Reshape", "Gemm", "Reshape", "Gemm", "Reshape"]  # the input is reshaped once
    assert [node.name for node in changed.graph.node if node.op_type == "Gemm"] == ["y:product", "z:product"]
    x = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
    for mine, wanted in zip(run(changed, x), run(model, x), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-5)


def test_what_stays() -> None:
    layer = linear("w", "b", "y")
    assert operators(as_gemm(graph_of(layer, TOKENS, ("y",)), {"y:product"})) == ["MatMul", "Add"]
    assert operators(as_gemm(graph_of(layer, ["N", "T", 8], ("y",)), ())) == ["MatMul", "Add"]
    assert operators(as_gemm(graph_of(layer, TOKENS, ("y", "yp")), ())) == ["MatMul", "Add"]  # the product is wanted
    assert operators(as_gemm(graph_of(layer[:1], TOKENS, ("yp",)), ())) == ["MatMul"]
