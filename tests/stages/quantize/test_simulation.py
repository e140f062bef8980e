import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.data import Part
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError, StageError
from edgekd.evaluate import run_module, run_onnx
from edgekd.models.exported_graph import set_adapting, set_training
from edgekd.models.fake_quantization import rounded_weights, rounders, weight_of
from edgekd.request import Request, prepare
from edgekd.stages.export.prepared_writer import write_prepared
from edgekd.stages.quantize import STAGE, QuantizeSettings
from edgekd.stages.quantize.simulation import simulation_of
from edgekd.state import ModelState, OnnxForm, PreparedForm, load_state, save_state
from edgekd.target import QuantizationScheme, load_target
from tests.exact import run_part_exactly

SETTINGS = QuantizeSettings(simulate=True, calibrators=("min-max", "mse"))


@pytest.fixture(scope="module")
def given(example: Path) -> tuple[ModelState, Context]:
    made = prepare(Request(example / "model.pt", ("raspberry-pi-5",), threads=1))
    return made.opened.state, made.contexts[0]


@pytest.fixture(scope="module")
def simulated(given: tuple[ModelState, Context]) -> ModelState:
    state, context = given
    return STAGE.run(state, SETTINGS, context)


def form_of(state: ModelState) -> PreparedForm:
    assert isinstance(state.form, PreparedForm)
    return state.form


def whole(context: Context) -> Part:
    data = context.parts.evaluation.dataset
    return Part(data, np.arange(len(data)), context.signature)


def trained(form: PreparedForm, context: Context, steps: int = 3, *, adapting: bool = False) -> PreparedForm:
    """Return a copy of the form after a few steps of plain SGD on the train part."""
    form = copy.deepcopy(form)
    graph, part = form.module, context.parts.train
    set_adapting(graph, adapting)
    set_training(graph, True)
    optimizer = torch.optim.SGD(graph.parameters(), lr=0.01)
    for step in range(steps):
        positions = slice(32 * step, 32 * step + 32)
        targets = part.targets_at(positions)
        assert targets is not None
        logits = graph(torch.from_numpy(part.inputs(positions)["image"]))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, torch.from_numpy(targets)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    set_training(graph, False)
    return form


def test_the_graph_is_near_the_network_and_the_notes_say_how(
    given: tuple[ModelState, Context], simulated: ModelState
) -> None:
    state, context = given
    part = context.parts.evaluation
    float_outputs, outputs = (
        run_module(one, part)["output"] for one in (state.torch.module, form_of(simulated).module)
    )
    assert not np.array_equal(float_outputs, outputs)
    assert np.corrcoef(float_outputs.ravel(), outputs.ravel())[0, 1] > 0.999
    assert STAGE.leaves(SETTINGS, "torch") == simulated.form.kind == "prepared"
    assert STAGE.leaves(QuantizeSettings(), "torch") == "onnx"
    assert simulated.lineage == ("quantize",) and simulated.form.precision == "int8"
    assert simulated.notes["calibrator"] in ("min-max", "mse") and set(simulated.notes["validation"]) == {
        "min-max",
        "mse",
    }
    assert simulated.notes["rounded"] == {"weights": 9, "activations": 13}


def test_it_is_the_same_every_time(given: tuple[ModelState, Context]) -> None:
    state, context = given
    settings = QuantizeSettings(simulate=True, calibrators=("min-max",))
    first, again = (form_of(STAGE.run(state, settings, context)).module.state_dict() for _ in range(2))
    assert again.keys() == first.keys() and all(torch.equal(again[name], value) for name, value in first.items())


def test_weights_train_while_levels_and_statistics_stay(
    given: tuple[ModelState, Context], simulated: ModelState
) -> None:
    before = form_of(simulated).module.state_dict()
    form = trained(form_of(simulated), given[1])
    after, weights = form.module.state_dict(), {name for name, _ in form.module.named_parameters()}
    assert all(not torch.equal(after[name], before[name]) for name in weights)
    assert all(torch.equal(after[name], before[name]) for name in before.keys() - weights)
    levels = {name for name in before if name.endswith((".scale", ".zero_point"))}
    statistics = {name for name in before if "running_" in name}
    assert len(levels) >= 2 * len(rounders(form.module)) and len(statistics) == 14


def test_levels_and_statistics_follow_where_the_graph_adapts(
    given: tuple[ModelState, Context], simulated: ModelState, tmp_path: Path
) -> None:
    before = form_of(simulated).module.state_dict()
    form = trained(form_of(simulated), given[1], adapting=True)
    after = form.module.state_dict()
    levels = [name for name in before if name.endswith(".scale")]
    assert sum(not torch.equal(after[name], before[name]) for name in levels) > len(levels) // 2
    assert all(not torch.equal(after[name], before[name]) for name in before if "running_" in name)
    assert all(not rounder.observer_enabled for rounder in rounders(form.module).values())  # it is in eval mode again
    part = given[1].parts.evaluation
    path, outputs = tmp_path / "model.onnx", run_module(form.module, part)["output"]
    assert all(torch.equal(value, after[name]) for name, value in form.module.state_dict().items())
    write_prepared(form.module, simulated.signature, path)
    assert (run_part_exactly(path, part)["output"].argmax(1) == outputs.argmax(1)).mean() >= 0.98


def test_trained_weights_copy_back_by_name(given: tuple[ModelState, Context], simulated: ModelState) -> None:
    state, context = given
    form = trained(form_of(simulated), context)
    floating = form.copied_back(state.signature)
    assert floating.edits == form.edits and floating.base is form.base
    weights = form.module.state_dict()
    own = {name: value for name, value in floating.module.state_dict().items() if value.is_floating_point()}
    assert all(torch.equal(value, weights[name]) for name, value in own.items())
    for rounder in rounders(form.module).values():
        rounder.disable_fake_quant()
    part = context.parts.validation
    given_back, outputs = (run_module(one, part)["output"] for one in (floating.module, form.module))
    np.testing.assert_allclose(given_back, outputs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_the_written_file_runs_in_integers_and_decides_alike(
    given: tuple[ModelState, Context], simulated: ModelState, tmp_path: Path, steps: int
) -> None:
    _, context = given
    form, part = trained(form_of(simulated), context, steps), whole(context)
    before = run_module(form.module, part)["output"]
    path = tmp_path / "model.onnx"
    write_prepared(form.module, simulated.signature, path, opset=20)
    written = run_onnx(path, part, 1)["output"]
    assert (written.argmax(1) == before.argmax(1)).mean() >= 0.99
    assert np.array_equal(run_module(form.module, part)["output"], before)  # the graph itself is as it was
    model = onnx.load(str(path))
    assert (model.ir_version, model.opset_import[0].version) == (10, 20)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "output"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    kinds = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            sources = [makers[name].input[0] for name in node.input[1:] if name in makers]
            kinds.append([constants[name].data_type for name in sources if name in constants])
    integers = [onnx.TensorProto.INT8, onnx.TensorProto.INT32]
    assert kinds.count(integers) == 7 and kinds.count(integers[:1]) == 2 and kinds.count([]) == 1  # the stem
    executed = executed_operators(path, tmp_path)
    assert executed.count("QLinearConv") == 8 and executed.count("Conv") == 1 and "QGemm" in executed


def executed_operators(path: Path, folder: Path) -> list[str]:
    """Return the operators that ONNX Runtime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def test_a_symmetric_scheme_has_no_zero_points(given: tuple[ModelState, Context], tmp_path: Path) -> None:
    state, context = given
    scheme = QuantizationScheme(activation_dtype="int8", activation_symmetric=True)
    runtime = context.runtime.model_copy(update={"quantization": scheme})
    target = context.target.model_copy(update={"runtime": {context.runtime_name: runtime}})
    settings = QuantizeSettings(simulate=True, calibrators=("min-max",), keep_float=("classifier",))
    form = form_of(STAGE.run(state, settings, replace(context, target=target)))
    assert all((rounder.zero_point == 0).all() for rounder in rounders(form.module).values())
    path = tmp_path / "model.onnx"
    write_prepared(form.module, state.signature, path)
    open_session("onnxruntime", path, 1)
    model = onnx.load(str(path))
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    (head,) = (node for node in model.graph.node if node.op_type == "Gemm")
    assert not {makers.get(name) for name in head.input} & {"DequantizeLinear"}


def test_what_cannot_be_simulated_is_refused(given: tuple[ModelState, Context], tmp_path: Path) -> None:
    state, context = given
    with pytest.raises(InputError, match="no module or operator 'stam'"):
        STAGE.check(QuantizeSettings(simulate=True, keep_float=("stam",)), state, context)
    with pytest.raises(InputError, match="cannot be trained"):
        STAGE.check(SETTINGS, replace(state, form=OnnxForm(tmp_path / "model.onnx")), context)
    wide = QuantizationScheme(activation_dtype="int16")
    with pytest.raises(InputError, match="put distill before quantize"):
        simulation_of(SETTINGS, wide)
    assert simulation_of(QuantizeSettings(simulate=True, activations="float"), wide).activations == "float"
    with pytest.raises(InputError, match="one scale a tensor"):
        simulation_of(QuantizeSettings(simulate=True, weights="int4"), QuantizationScheme(per_channel=False))
    assert "rounded at export" in STAGE.describe(SETTINGS, context)


@pytest.mark.parametrize("runtime", ["openvino", "tensorrt"])
@pytest.mark.parametrize("settings", [{"weights": "int4"}, {"weights": "int4", "block": 32}, {"weights": "ternary"}])
def test_a_runtime_that_unpacks_no_weights_is_refused_before_any_work(
    settings: dict[str, Any], runtime: str, given: tuple[ModelState, Context]
) -> None:
    state, context = given
    target = {"openvino": "generic-x86", "tensorrt": "jetson-orin"}[runtime]
    other = replace(context, target=load_target(target)[0], runtime_name=runtime)
    with pytest.raises(InputError, match="no int4; onnxruntime does"):
        STAGE.check(QuantizeSettings(simulate=True, **settings), state, other)


@pytest.mark.parametrize(
    ("settings", "weights", "activations", "block"),
    [
        ({}, "int8", "int8", 0),
        ({"weights": "int4"}, "int4", "int8", 0),
        ({"weights": "int4", "block": 32}, "int4", "float", 32),
        ({"weights": "ternary"}, "ternary", "float", 128),
        ({"weights": "ternary", "block": 0}, "ternary", "float", 0),
    ],
)
def test_what_is_not_said_suits_what_is(settings: dict[str, Any], weights: str, activations: str, block: int) -> None:
    made = simulation_of(QuantizeSettings(simulate=True, **settings), QuantizationScheme())
    assert (made.weights, made.activations, made.block, made.scales) == (weights, activations, block, "absmax")


def test_a_scheme_of_four_bits_is_simulated_so() -> None:
    assert simulation_of(SETTINGS, QuantizationScheme(weight_dtype="int4")).weights == "int4"


def test_a_quantization_is_simulated_without_what_rounding_alone_has() -> None:
    given = QuantizeSettings(rounding=("nearest",), float_noise=1, calibrators=("mse",), keep_float=("Gemm",))
    assert given.simulated() == QuantizeSettings(simulate=True, calibrators=("mse",), keep_float=("Gemm",))
    assert QuantizeSettings(simulate=True, calibrators=("mse",)).calibrators == ("mse",)  # ranges of activations


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simulate": False, "weights": "int4"}, "set simulate = true"),
        ({"weights": "ternary", "activations": "int8"}, 'set activations = "float"'),
        ({"weights": "int4", "activations": "int8", "block": 32}, "set block = 0"),
        ({"weights": "ternary", "scales": "learned"}, "leave scales out"),
        ({"equalization": "try", "rounding": ("nearest",)}, "rounding, equalization: without effect"),
        ({"bias_correction": False}, "bias_correction: without effect"),
        ({"float_noise": 0.5}, "float_noise: without effect"),
        ({"activations": "float", "calibrators": ("mse",)}, 'calibrators: .* set activations = "int8"'),
    ],
)
def test_contradictions_are_refused_with_the_way_out(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizeSettings.model_validate({"simulate": True, **settings})


def test_low_bits_train_are_stored_and_come_back(given: tuple[ModelState, Context], tmp_path: Path) -> None:
    state, context = given
    settings = QuantizeSettings(simulate=True, weights="ternary", least_channels=1)
    made = STAGE.run(state, settings, context)
    assert made.notes["rounded"] == {"weights": 1, "activations": 0} and form_of(made).precision == "ternary-weights"
    assert made.notes["zero_ratio"].keys() == {"classifier.weight"}
    assert 0.15 < made.notes["zero_ratio"]["classifier.weight"] < 0.6
    form = trained(form_of(made), context, 1, adapting=True)
    save_state(replace(made, form=form), tmp_path)
    loaded = form_of(load_state(tmp_path, form.base))
    assert loaded.simulation == form.simulation
    part = context.parts.validation
    assert np.array_equal(run_module(loaded.module, part)["output"], run_module(form.module, part)["output"])


def test_a_network_without_the_layers_is_refused(given: tuple[ModelState, Context]) -> None:
    state, context = given
    settings = QuantizeSettings(simulate=True, weights="ternary", keep_float=("classifier",))
    with pytest.raises(InputError, match="ternary are those of linear layers alone"):
        STAGE.run(state, settings, context)


def test_the_ranges_of_a_network_that_is_not_finite_are_refused(given: tuple[ModelState, Context]) -> None:
    state, context = given
    form = copy.deepcopy(state.torch)
    with torch.no_grad():
        form.module.classifier.weight[0, 0] = float("nan")
    with pytest.raises(StageError, match="classifier.weight is not finite"):
        STAGE.run(replace(state, form=form), SETTINGS, context)


def test_an_activation_that_is_not_a_number_is_refused_with_its_place(given: tuple[ModelState, Context]) -> None:
    state, context = given
    part = context.parts.calibration
    form = copy.deepcopy(state.torch)
    form.module.blocks[1].conv1.register_forward_hook(lambda _, __, output: output * float("nan"))
    with pytest.raises(InputError, match=rf"'input of blocks.1.conv2' is NaN for sample {part.indices[0]} of the data"):
        STAGE.run(replace(state, form=form), SETTINGS, context)


def test_a_layer_stays_in_float_by_the_name_that_its_node_has_in_the_file(given: tuple[ModelState, Context]) -> None:
    settings = SETTINGS.model_copy(update={"keep_float": ("blocks.0.conv2/Conv", "blocks.1/Add")})
    made = form_of(STAGE.run(given[0], settings, given[1]))
    rounded = rounded_weights(made.module)
    weights = {weight_of(node) for node in made.module.graph.find_nodes(op="call_module") if node.target in rounded}
    assert "blocks.0.conv2.weight" not in weights and "blocks.1.conv1.weight" in weights
    with pytest.raises(InputError, match="no module or operator 'blocks.0.conv3/Conv'"):
        STAGE.run(given[0], SETTINGS.model_copy(update={"keep_float": ("blocks.0.conv3/Conv",)}), given[1])
