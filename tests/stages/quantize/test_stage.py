import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.context import Context
from edgekd.data import Dataset
from edgekd.device.machine import Machine
from edgekd.errors import InputError
from edgekd.metrics import METRICS
from edgekd.models.networks import NETWORKS
from edgekd.request import Request, prepare
from edgekd.stages.quantize import STAGE, QuantizeSettings
from edgekd.stages.quantize.executors.onnxruntime import write_int8
from edgekd.stages.quantize.preparation import prepare as fold
from edgekd.stages.quantize.stage import narrow_convolutions
from edgekd.state import ModelState, OnnxForm
from edgekd.target import QuantizationScheme, load_target
from tests.exact import run_exactly


@pytest.fixture
def prepared(example: Path) -> tuple[ModelState, Context]:
    made = prepare(Request(example / "model.pt", ("raspberry-pi-5",), threads=1))
    return made.opened.state, made.contexts[0]


FAST = QuantizeSettings(calibrators=("mse",), rounding=("nearest",), float_noise=1)


def quantized(
    prepared: tuple[ModelState, Context], folder: Path, settings: QuantizeSettings
) -> tuple[onnx.ModelProto, dict]:
    folder.mkdir(exist_ok=True)
    after = STAGE.run(prepared[0], settings, replace(prepared[1], workdir=folder))
    assert isinstance(after.form, OnnxForm) and after.form.precision == "int8"
    return onnx.load(str(after.form.path)), after.notes


def test_the_scheme_is_the_target_s(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    settings = QuantizeSettings(calibrators=("mse",), float_noise=1)
    model, notes = quantized(prepared, tmp_path / "a", settings)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    activations = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert activations and all(constants[node.input[2]].dtype == np.uint8 for node in activations)
    weights = [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and constants.get(node.input[0], np.zeros(0)).ndim == 4
    ]
    assert weights and all(constants[node.input[1]].size == constants[node.input[0]].shape[0] for node in weights)
    assert all((constants[node.input[2]] == 0).all() for node in weights)
    assert len(notes["kept_float"]) == 1 and notes["biases_corrected"] > 0


def test_the_file_is_the_same_every_time(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    settings = QuantizeSettings(calibrators=("min-max",))
    first, second = (quantized(prepared, tmp_path / name, settings)[0] for name in "ab")
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_operators_named_stay_in_float(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    model, _ = quantized(prepared, tmp_path / "a", QuantizeSettings(calibrators=("min-max",), keep_float=("Gemm",)))
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert constants[gemm.input[1]] == TensorProto.FLOAT


def test_layers_of_other_operators_keep_their_weights(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    scheme = prepared[1].runtime.quantization
    assert scheme is not None
    runtime = prepared[1].runtime.model_copy(
        update={"quantization": scheme.model_copy(update={"operators": ("Conv",)})}
    )
    target = prepared[1].target
    changed = target.model_copy(update={"runtime": {**target.runtime, prepared[1].runtime_name: runtime}})
    model, _ = quantized(
        (prepared[0], replace(prepared[1], target=changed)), tmp_path / "a", QuantizeSettings(calibrators=("mse",))
    )
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    weight = numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == gemm.input[1]))
    assert any(
        np.array_equal(weight, tensor.numpy()) or np.array_equal(weight, tensor.numpy().T)
        for tensor in prepared[0].torch.module.state_dict().values()
        if tensor.ndim == 2
    )


def test_what_has_no_int8_is_named(tmp_path: Path) -> None:
    data = Dataset({"input": np.random.default_rng(0).normal(size=(90, 20, 10)).astype(np.float32)}, origin="random")
    said: list[str] = []
    request = Request(
        NETWORKS["gru"]().eval(), ("raspberry-pi-5",), data, recipe="quantize", threads=1, say=said.append
    )
    made = prepare(request)
    model, notes = quantized(
        (made.opened.state, made.contexts[0]), tmp_path / "a", QuantizeSettings(calibrators=("mse",))
    )
    names = [node.name for node in model.graph.node if node.op_type == "GRU"]
    assert names and set(names) <= set(notes["kept_float"])
    assert any("GRU stays in float" in line for line in said)


def test_validation_picks_the_calibrator(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    _, notes = quantized(prepared, tmp_path / "a", QuantizeSettings(calibrators=("min-max", "mse")))
    best = max(notes["validation"], key=lambda name: notes["validation"][name])
    assert f"{notes['calibrator']}, {notes['rounding']}" == best and len(notes["validation"]) == 4


def test_a_name_that_is_nowhere_is_refused(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no node, module or operator 'Gem'; nearest: Gemm"):
        quantized(prepared, tmp_path / "a", QuantizeSettings(keep_float=("Gem",)))


def graph_of(nodes: list[onnx.NodeProto], weight: onnx.TensorProto, shape: list[int]) -> onnx.ModelProto:
    """A graph from x to y, of one shape both."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def test_a_row_of_activation_functions_has_the_range_of_the_last(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Relu", ["b"], ["y"], "again"),
    ]
    weight = numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")
    model = graph_of(nodes, weight, [1, 4, 4, 4])
    write_int8(model, {"x": (-1.0, 1.0), "y": (0.0, 2.0)}, [], QuantizationScheme(), (), tmp_path / "int8.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, (1, 4, 4, 4)).astype(np.float32)
    found = run_exactly(tmp_path / "int8.onnx", {"x": x})["y"]
    assert found.max() > 1.2
    np.testing.assert_allclose(found, np.clip(x.sum(1, keepdims=True).repeat(4, 1), 0, 2), atol=0.03)


def test_noise_is_what_the_settings_allow(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    kept = []
    for number, (noise, share) in enumerate(((1.0, 1.0), (0.01, 1.0), (0.01, 0.0))):
        settings = QuantizeSettings(calibrators=("mse",), float_noise=noise, float_share=share)
        kept.append(set(quantized(prepared, tmp_path / str(number), settings)[1]["kept_float"]))
    assert kept[0] < kept[1] and kept[2] == kept[0]


def test_every_node_has_a_name_of_its_own(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"], "same"),
        helper.make_node("Conv", ["c", "w"], ["y"], "same"),
    ]
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    model = graph_of(nodes, weight, [1, 2, 4, 4])
    onnx.save(model, str(tmp_path / "float.onnx"))
    names = [node.name for node in fold(tmp_path / "float.onnx", tmp_path / "prepared.onnx").graph.node]
    assert len(names) == 4 and len(set(names)) == 4 and "" not in names


def test_only_ungrouped_convolutions_of_few_channels_are_narrow() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], "stem"),
        helper.make_node("Conv", ["a", "deep"], ["b"], "depthwise", group=8),
        helper.make_node("Conv", ["b", "wide"], ["c"], "wide"),
    ]
    shapes = {"stem": (8, 3, 3, 3), "deep": (8, 1, 3, 3), "wide": (8, 8, 1, 1)}
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "c")]
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:], weights))
    assert narrow_convolutions(model, 4) == ["stem"]


def test_a_network_in_integers_already_is_refused() -> None:
    with pytest.raises(InputError, match="the network is int8 by then"):
        STAGE.becomes(QuantizeSettings(), "int8")


def test_validation_of_one_class_picks_by_fidelity(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    state, context = prepared
    part = context.parts.validation
    assert part.dataset.targets is not None
    normal = replace(part, dataset=replace(part.dataset, targets=np.zeros_like(part.dataset.targets)))
    context = replace(context, metric=METRICS["auc"], parts=replace(context.parts, validation=normal))
    _, notes = quantized((state, context), tmp_path / "a", QuantizeSettings(calibrators=("min-max", "mse")))
    assert all(pair[0] > 10 and np.isfinite(pair).all() for pair in notes["validation"].values())  # in dB


@pytest.fixture
def without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "int8_overflows", property(lambda machine: machine.architecture == "x86_64"))


def on(context: Context, name: str) -> Context:
    return replace(context, target=load_target(name)[0])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the target that is this machine is an x86")
def test_weights_keep_to_seven_bits_where_products_would_overflow(
    prepared: tuple[ModelState, Context], tmp_path: Path, without_vnni: None
) -> None:
    state, context = prepared
    here = on(context, "generic-x86")
    settings = QuantizeSettings(calibrators=("mse",), rounding=("least-output-error",), float_noise=1)
    largest = {}
    for number, one in enumerate((settings, settings.model_copy(update={"weight_range": "full"}))):
        model, notes = quantized((state, here), tmp_path / str(number), one)
        weights = [numpy_helper.to_array(one) for one in model.graph.initializer if len(one.dims) in (2, 4)]
        largest[notes["weight_range"]] = max(
            int(np.abs(one.astype(int)).max()) for one in weights if one.dtype == np.int8
        )
    assert largest == {"seven-bit": 64, "full": 127}
    keys = [STAGE.depends_on(settings, one)["scheme"]["weight_range"] for one in (here, on(context, "raspberry-pi-5"))]  # type: ignore[index]
    assert keys == ["seven-bit", "full"]
    assert "7-bit per-channel" in STAGE.describe(settings, here)


def test_a_graph_that_branches_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 2, 4, 4])
    branches = {
        name: helper.make_graph([helper.make_node(operator, ["a"], ["b"])], name, [], [value])
        for name, operator in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("ReduceMax", ["a"], ["most"], "most", keepdims=0),
        helper.make_node("Cast", ["most"], ["condition"], "cast", to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["y"], "choose", **branches),
    ]
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    onnx.save(graph_of(nodes, weight, [1, 2, 4, 4]), str(tmp_path / "float.onnx"))
    with pytest.raises(InputError, match="decides at run time what it computes \\(If 'choose'\\)"):
        fold(tmp_path / "float.onnx", tmp_path / "prepared.onnx")


def test_a_network_of_which_nothing_is_rounded_is_refused(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    everything = ("Conv", "Gemm", "Add", "Relu", "GlobalAveragePool", "Reshape", "Flatten")
    known = {node.op_type for node in quantized(prepared, tmp_path / "a", FAST)[0].graph.node}
    settings = FAST.model_copy(update={"keep_float": tuple(name for name in everything if name in known)})
    with pytest.raises(InputError, match="nothing in this network is rounded: its operators are .*Conv"):
        quantized(prepared, tmp_path / "b", settings)
    assert {file.name for file in (tmp_path / "b").glob("*.onnx")} == {"float.onnx", "prepared.onnx"}  # nothing tried


def test_equalization_is_tried_where_a_weight_has_one_scale(
    prepared: tuple[ModelState, Context], tmp_path: Path
) -> None:
    scheme = prepared[1].runtime.quantization
    assert scheme is not None
    assert not FAST.equalizes(scheme, spread=8) and FAST.equalizes(scheme, spread=9)
    assert FAST.equalizes(scheme.model_copy(update={"per_channel": False}), spread=1)
    _, notes = quantized(prepared, tmp_path / "a", FAST.model_copy(update={"equalization": "try"}))
    assert set(notes["validation"]) == {"mse, nearest", "mse, nearest, equalized"}
    assert all(accuracy > 50 for accuracy, _ in notes["validation"].values())
