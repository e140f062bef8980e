import onnx
import pytest
from onnx import TensorProto, helper

from edgekd.stages.quantize.placement import Placement, place


def graph_of(nodes: list[tuple[str, str, str]], outputs: str, sizes: dict[str, int] | None = None) -> onnx.ModelProto:
    """Return a graph of (operator, inputs, output) in letters, on tensors (1, size); capitals are weights."""
    made = [helper.make_node(kind, list(inputs), [output], output) for kind, inputs, output in nodes]
    weights = {name for _, inputs, _ in nodes for name in inputs if name.isupper()}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, (sizes or {}).get(name, 8)])
        for name in {"x", *(output for _, _, output in nodes)}
    }
    return helper.make_model(
        helper.make_graph(
            made,
            "g",
            [values["x"]],
            [values[name] for name in outputs],
            [helper.make_tensor(name, TensorProto.FLOAT, [1, 1], [1.0]) for name in sorted(weights)],
            value_info=[value for name, value in values.items() if name not in ("x", *outputs)],
        )
    )


ABLE = ("Conv", "Gemm", "Add", "Relu", "Reshape", "MaxPool")


@pytest.fixture(autouse=True)
def given_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs here have the sizes that they say, not those that their operators would make."""
    monkeypatch.setattr("edgekd.stages.quantize.placement.at_batch", lambda model, batch: model)
    monkeypatch.setattr(
        "edgekd.stages.quantize.placement.inferred_values",
        lambda model: [*model.graph.input, *model.graph.value_info, *model.graph.output],
    )


def placed(model: onnx.ModelProto) -> Placement:
    return place(model, {node.name for node in model.graph.node if node.op_type in ABLE})


def test_between_convolutions_everything_runs_in_integers() -> None:
    model = graph_of(
        [("Conv", "xW", "a"), ("Relu", "a", "b"), ("Conv", "bV", "c"), ("Add", "bc", "d"), ("Conv", "dU", "e")], "e"
    )
    found = placed(model)
    assert found.integer == {"a", "b", "c", "d", "e"} and not found.float_outputs


def test_the_residual_stream_of_a_transformer_stays_in_float() -> None:
    model = graph_of(
        [
            ("LayerNormalization", "xN", "a"), ("Gemm", "aW", "b"), ("Add", "xb", "c"), ("LayerNormalization", "cN", "d"),
            ("Gemm", "dV", "e"), ("Gelu", "e", "f"), ("Gemm", "fU", "g"), ("Add", "cg", "h"), ("Softmax", "h", "i"),
        ],
        "i",
    )  # fmt: skip
    found = placed(model)
    assert found.integer == {"b", "e", "g"} == found.float_outputs


def test_linear_layers_in_a_row_pass_integers_on() -> None:
    model = graph_of([("Gemm", "xW", "a"), ("Relu", "a", "b"), ("Gemm", "bV", "c")], "c")
    found = placed(model)
    assert found.integer == {"a", "b", "c"} and found.float_outputs == {"c"}


def test_an_activation_function_goes_with_the_convolution_in_front() -> None:
    found = placed(graph_of([("Conv", "xW", "a"), ("Relu", "a", "b"), ("Softmax", "b", "c")], "c"))
    assert found.integer == {"a", "b"}


@pytest.mark.parametrize(("small", "integer"), [("b", {"a", "b"}), ("a", {"a"})])
def test_the_smaller_tensor_is_converted(small: str, integer: set[str]) -> None:
    model = graph_of([("Conv", "xW", "a"), ("MaxPool", "a", "b"), ("Softmax", "b", "c")], "c", {small: 2})
    assert placed(model).integer == integer


def test_a_graph_without_integers_has_none() -> None:
    found = placed(graph_of([("Softmax", "x", "a"), ("Add", "aa", "b")], "b"))
    assert found == Placement(frozenset(), frozenset())
