from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.request import Request, prepare
from edgekd.stages.quantize import STAGE, QuantizeSettings
from edgekd.stages.quantize.bias_correction import correct_biases, round_weights
from edgekd.stages.quantize.calibration import BINS, Histogram, choose_range
from edgekd.stages.quantize.stage import narrow_convolutions
from edgekd.state import ModelState, OnnxForm

SETTINGS = QuantizeSettings()


def histogram(values: np.ndarray) -> Histogram:
    return Histogram(float(values.min()), float(values.max()), np.histogram(values, BINS)[0])


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    """A bell curve with one far outlier."""
    return np.append(np.random.default_rng(0).normal(size=100_000), 40.0)


def test_min_max_keeps_every_value_and_always_holds_zero(normal: np.ndarray) -> None:
    assert choose_range(histogram(normal), "min-max", SETTINGS) == (normal.min(), 40.0)
    assert choose_range(histogram(np.linspace(2, 3, 100)), "min-max", SETTINGS) == (0.0, 3.0)


def test_percentile_cuts_the_share_it_says(normal: np.ndarray) -> None:
    low, high = choose_range(histogram(normal), "percentile", QuantizeSettings(percentile=99.0))
    outside = ((normal < low) | (normal > high)).mean()
    assert 0.005 < outside < 0.0125 and high < 4


def test_mse_is_as_good_as_the_best_range_found_by_force(normal: np.ndarray) -> None:
    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        return float(((np.clip(np.round((normal - low) / step), 0, 255) * step + low - normal) ** 2).mean())

    low, high = choose_range(histogram(normal), "mse", SETTINGS)
    forced = min(error(normal.min() * f, 40 * f) for f in np.geomspace(1, 0.05, 80))
    assert error(low, high) <= 1.15 * forced
    assert error(low, high) < error(normal.min(), 40.0)


def test_entropy_cuts_the_outlier_but_not_the_bell(normal: np.ndarray) -> None:
    low, high = choose_range(histogram(normal), "entropy", SETTINGS)
    assert 2.5 < high < 40 and ((normal >= low) & (normal <= high)).mean() > 0.5


@pytest.mark.parametrize("calibrator", ["min-max", "percentile", "mse", "entropy"])
def test_a_constant_tensor_has_a_range(calibrator: str) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[0] = 10
    assert choose_range(Histogram(2.0, 2.0, counts), calibrator, SETTINGS) == (0.0, 2.0)  # type: ignore[arg-type]


def test_weights_are_rounded_to_127_steps_of_each_channel() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)) * np.array([1, 10, 0.1, 0]).reshape(4, 1, 1, 1)
    rounded = round_weights(weights, per_channel=True)
    step = np.abs(weights).max((1, 2, 3)) / 127
    assert (np.abs(rounded - weights).max((1, 2, 3)) <= step / 2 + 1e-12).all()
    np.testing.assert_allclose(np.abs(rounded).max((1, 2, 3)), np.abs(weights).max((1, 2, 3)))


def test_bias_correction_restores_the_mean_of_a_layer() -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(5, 4, 1, 1)).astype(np.float32)
    bias = generator.normal(size=5).astype(np.float32)
    x = generator.normal(2.0, 1.0, size=(1000, 4)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv")
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n, 1, 1]) for name, n in (("x", 4), ("y", 5))
    ]
    initializers = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    model = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:], initializers))
    observed = {"x": Histogram(float(x.min()), float(x.max()), np.ones(BINS, np.int64), x.mean(0).astype(np.float64))}
    assert correct_biases(model, observed, per_channel=True) == 1
    corrected = numpy_helper.to_array(model.graph.initializer[1])
    rounded = round_weights(weight, per_channel=True)[:, :, 0, 0]
    wanted = (x @ weight[:, :, 0, 0].T + bias).mean(0)
    np.testing.assert_allclose((x @ rounded.T + corrected).mean(0), wanted, atol=1e-4)
    assert np.abs((x @ rounded.T + bias).mean(0) - wanted).max() > 1e-3


@pytest.fixture
def prepared(example: Path) -> tuple[ModelState, Context]:
    made = prepare(Request(example / "model.pt", ("raspberry-pi-5",), threads=1))
    return made.opened.state, made.contexts[0]


def quantized(
    prepared: tuple[ModelState, Context], folder: Path, settings: QuantizeSettings
) -> tuple[onnx.ModelProto, dict]:
    from dataclasses import replace

    folder.mkdir(exist_ok=True)
    after = STAGE.run(prepared[0], settings, replace(prepared[1], workdir=folder))
    assert isinstance(after.form, OnnxForm) and after.form.precision == "int8"
    return onnx.load(str(after.form.path)), after.notes


def test_the_scheme_is_the_target_s(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    model, notes = quantized(prepared, tmp_path / "a", QuantizeSettings(calibrators=("mse",)))
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


def test_validation_picks_the_calibrator(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    _, notes = quantized(prepared, tmp_path / "a", QuantizeSettings(calibrators=("min-max", "mse")))
    best = max(notes["validation"], key=lambda name: notes["validation"][name])
    assert notes["calibrator"] == best and set(notes["validation"]) == {"min-max", "mse"}


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


def test_a_network_in_integers_already_is_refused(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    state = ModelState(prepared[0].signature, OnnxForm(tmp_path / "m.onnx", "int8"))
    with pytest.raises(InputError, match="int8 already"):
        STAGE.check(QuantizeSettings(), state, prepared[1])
