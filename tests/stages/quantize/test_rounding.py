import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.stages.quantize.observation import Moments
from edgekd.stages.quantize.rounding import round_layers, round_rows, with_rounded
from edgekd.stages.quantize.settings import Rounding
from edgekd.target import QuantizationScheme

ROUNDINGS: tuple[Rounding, ...] = ("nearest", "least-output-error")


def correlated(inputs: int, seed: int = 0) -> np.ndarray:
    """Values (10,000, inputs) that go together: few causes, some noise."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(10_000, max(2, inputs // 8)))
    return causes @ random.normal(size=(causes.shape[1], inputs)) + 0.1 * random.normal(size=(10_000, inputs)) + 1.0


def steps_of(weights: np.ndarray, largest: int) -> np.ndarray:
    return np.abs(weights).max(2) / largest


@pytest.mark.parametrize("largest", [127, 7])
def test_rounding_to_the_nearest_is_within_half_a_step(largest: int) -> None:
    weights = np.random.default_rng(0).normal(size=(2, 5, 30)) * np.array([1, 10, 0.1, 3, 7]).reshape(1, 5, 1)
    steps = steps_of(weights, largest)
    rounded = round_rows(weights, steps, None, largest)
    assert (np.abs(rounded - weights).max(2) <= steps / 2 + 1e-12).all()
    np.testing.assert_allclose(np.abs(rounded).max(2), np.abs(weights).max(2))


@pytest.mark.parametrize("inputs", [20, 64, 150])  # less, exactly, and more than a block
def test_the_outputs_of_inputs_that_go_together_change_less(inputs: int) -> None:
    x = correlated(inputs)
    weights = np.random.default_rng(1).normal(size=(1, 6, inputs))
    steps = steps_of(weights, 7)
    covariance = np.cov(x.T, bias=True)[None]

    def error(rounded: np.ndarray) -> float:
        change = (x - x.mean(0)) @ (rounded - weights)[0].T
        return float((change**2).mean())

    nearest, found = (round_rows(weights, steps, one, 7) for one in (None, covariance))
    on_grid = found / steps[:, :, None]
    np.testing.assert_allclose(on_grid, np.round(on_grid), atol=1e-9)
    assert np.abs(on_grid).max() <= 7 + 1e-9
    assert error(found) < 0.4 * error(nearest)


@pytest.mark.parametrize("inputs", [20, 150])
@pytest.mark.parametrize("largest", [127, 7])
def test_masked_weights_stay_zero_and_the_others_make_good_what_they_can(inputs: int, largest: int) -> None:
    x = correlated(inputs)
    weights = np.random.default_rng(1).normal(size=(1, 6, inputs))
    weights[np.abs(weights) < np.quantile(np.abs(weights), 0.6)] = 0
    weights[0, 2] = 0
    steps = np.maximum(steps_of(weights, largest), 1e-3)
    covariance = np.cov(x.T, bias=True)[None]
    nearest, found = (round_rows(weights, steps, one, largest) for one in (None, covariance))
    assert (nearest[weights == 0] == 0).all() and (found[weights == 0] == 0).all()
    errors = [((((x - x.mean(0)) @ (one - weights)[0].T) ** 2).mean()) for one in (nearest, found)]
    assert errors[1] < 0.5 * errors[0]


def test_zeros_of_long_rows_stay_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekd.stages.quantize.rounding._APART", 10)
    weights = np.random.default_rng(1).normal(size=(1, 6, 100)) * (np.random.default_rng(2).random((1, 6, 100)) < 0.5)
    rounded = round_rows(weights, steps_of(weights, 127), np.cov(correlated(100).T, bias=True)[None], 127)
    assert (rounded[weights == 0] == 0).all() and np.abs(rounded - weights).max() > 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    covariance = np.cov(correlated(100).T, bias=True)[None]
    weights = np.random.default_rng(1).normal(size=(1, 3, 100))
    blocks = round_rows(weights, steps_of(weights, 7), covariance, 7)
    monkeypatch.setattr("edgekd.stages.quantize.rounding._BLOCK", 1000)
    np.testing.assert_allclose(round_rows(weights, steps_of(weights, 7), covariance, 7), blocks)


def test_independent_inputs_are_rounded_to_the_nearest() -> None:
    weights = np.random.default_rng(1).normal(size=(3, 4, 50))
    covariance = np.stack([np.diag(np.linspace(0.1, 9, 50))] * 3)
    steps = steps_of(weights, 127)
    np.testing.assert_allclose(round_rows(weights, steps, covariance, 127), round_rows(weights, steps, None, 127))


@pytest.mark.parametrize("dead", [slice(0, 0), slice(3, 9), slice(0, None)])
def test_inputs_that_never_change_do_no_harm(dead: slice) -> None:
    x = correlated(20)
    x[:, dead] = 2.0
    weights = np.random.default_rng(1).normal(size=(1, 4, 20))
    rounded = round_rows(weights, steps_of(weights, 127), np.cov(x.T, bias=True)[None], 127)
    assert np.isfinite(rounded).all() and np.abs(rounded).max() <= np.abs(weights).max() + 1e-9


def gemm(weight: np.ndarray, bias: np.ndarray | None) -> onnx.ModelProto:
    names = ["x", "w", *(["b"] if bias is not None else [])]
    node = helper.make_node("Gemm", names, ["y"], "gemm", transB=1)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    tensors = [numpy_helper.from_array(weight, "w")]
    tensors += [numpy_helper.from_array(bias, "b")] if bias is not None else []
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], tensors))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_bias_correction_restores_the_mean_of_a_layer(rounding: Rounding, per_channel: bool) -> None:
    x = correlated(30)
    random = np.random.default_rng(2)
    weight, bias = random.normal(size=(5, 30)).astype(np.float32), random.normal(size=5).astype(np.float32)
    moments = {"gemm": Moments(x.mean(0)[None], np.cov(x.T, bias=True)[None])}
    scheme = QuantizationScheme(weight_dtype="int4", per_channel=per_channel)
    wanted = (x @ weight.T + bias).mean(0)
    changes = {}
    for corrects in (True, False):
        layers = round_layers(gemm(weight, bias), moments, scheme, rounding, bias_correction=corrects)
        (rounded,) = layers
        assert rounded.steps.size == (5 if per_channel else 1)
        tensors = with_rounded(gemm(weight, bias), layers).graph.initializer
        new_weight, new_bias = (numpy_helper.to_array(tensor) for tensor in tensors)
        changes[corrects] = np.abs((x @ new_weight.T + new_bias).mean(0) - wanted).max()
    assert changes[True] < 1e-3 < changes[False]


def test_without_a_bias_the_mean_is_part_of_the_error() -> None:
    x = correlated(30) + 5.0
    weight = np.random.default_rng(2).normal(size=(5, 30)).astype(np.float32)
    moments = {"gemm": Moments(x.mean(0)[None], np.cov(x.T, bias=True)[None])}
    errors = []
    for rounding in ROUNDINGS:
        scheme = QuantizationScheme(weight_dtype="int4")
        (layer,) = round_layers(gemm(weight, None), moments, scheme, rounding, bias_correction=True)
        assert layer.bias is None
        errors.append(float(((x @ (layer.weight - weight).T) ** 2).mean()))
    assert errors[1] < 0.3 * errors[0]


def test_asymmetric_weights_are_left_to_the_executor() -> None:
    scheme = QuantizationScheme(weight_symmetric=False)
    assert round_layers(gemm(np.ones((2, 3), np.float32), None), {}, scheme, "nearest", bias_correction=True) == []


def test_a_row_of_zeros_stays_zero() -> None:
    weight = np.array([[0, 0, 0], [1, -2, 3]], np.float32)
    (layer,) = round_layers(gemm(weight, None), {}, QuantizationScheme(), "nearest", bias_correction=True)
    assert (layer.weight[0] == 0).all() and layer.steps[0] > 0
