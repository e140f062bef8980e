from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.data import Dataset, Part
from edgekd.errors import InputError
from edgekd.models.onnx_graph import at_batch
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.quantize.observation import BINS, observe

WEIGHT = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def graph(*between: onnx.NodeProto) -> onnx.ModelProto:
    """x (batch, 4) through Gemm and Relu to y; more nodes may stand in between."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], "gemm", transB=1),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        *between,
        helper.make_node("Identity", ["c" if between else "b"], ["y"], "end"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in (("x", 4), ("y", 3))]
    tensors = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(np.float32([np.inf]), "infinite")]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )
    return made


def part_of(x: np.ndarray) -> Part:
    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", 4)),), outputs=(TensorSpec(name="y", shape=("batch", 3)),)
    )
    return Part(Dataset(inputs={"x": x}, origin="random"), np.arange(len(x)), signature)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(1.0, 2.0, size=(333, 4)).astype(np.float32)


@pytest.mark.parametrize("batch", [None, 1, 50])  # 333 is no multiple of 50: the last batch is filled up
def test_every_value_is_counted_once(x: np.ndarray, tmp_path: Path, batch: int | None) -> None:
    model = graph() if batch is None else at_batch(graph(), batch)
    observed = observe(model, part_of(x), tmp_path, threads=1)
    assert set(observed.histograms) == {"x", "b", "y"}  # what goes into Relu only is not rounded
    wanted = {"x": x, "b": np.maximum(x @ WEIGHT.T, 0)}
    for name, values in wanted.items():
        histogram = observed.histograms[name]
        assert (histogram.low, histogram.high) == pytest.approx((values.min(), values.max()), rel=1e-5)
        assert len(histogram.counts) == BINS and histogram.counts.sum() == values.size
        mean = (histogram.counts * histogram.centers).sum() / values.size
        assert mean == pytest.approx(values.mean(), abs=2 * (histogram.high - histogram.low) / BINS)
    assert not list(tmp_path.iterdir())


def test_moments_are_those_of_what_the_layer_takes(x: np.ndarray, tmp_path: Path) -> None:
    observed = observe(graph(), part_of(x), tmp_path, threads=1)
    found = observed.moments["gemm"]
    np.testing.assert_allclose(found.mean[0], x.mean(0), rtol=1e-5)
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance[0], np.cov(x.T, bias=True), rtol=1e-4, atol=1e-5)


def test_a_layer_of_many_inputs_keeps_its_mean_only(
    x: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.stages.quantize.observation._MOST_INPUTS", 3)
    found = observe(graph(), part_of(x), tmp_path, threads=1).moments["gemm"]
    assert found.covariance is None and found.mean.shape == (1, 4)


def test_infinite_values_are_no_extremes(x: np.ndarray, tmp_path: Path) -> None:
    masked = helper.make_node("Sub", ["b", "infinite"], ["m"], "mask")
    back = helper.make_node("Concat", ["b", "m"], ["both"], "concat", axis=1)
    cut = helper.make_node("Slice", ["both", "zero", "three", "one"], ["c"], "slice")
    model = graph(masked, back, cut)
    for name, value in (("zero", 0), ("three", 3), ("one", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    observed = observe(model, part_of(x), tmp_path, threads=1)
    one, other = observed.histograms["both"], observed.histograms["b"]
    assert (one.low, one.high) == (other.low, other.high)
    assert one.counts.sum() == other.counts.sum() and observed.histograms["m"].low == 0


def test_what_two_activation_functions_take_is_counted_itself(x: np.ndarray, tmp_path: Path) -> None:
    clip = helper.make_node("Clip", ["a", "", "ceiling"], ["k"], "clip")
    model = graph(clip, helper.make_node("Add", ["b", "k"], ["c"], "add"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "ceiling"))
    assert {"a", "b", "k"} <= set(observe(model, part_of(x), tmp_path, threads=1).histograms)


@pytest.mark.parametrize("batch", [None, 50])
def test_what_is_not_a_number_is_named_with_its_sample(x: np.ndarray, tmp_path: Path, batch: int | None) -> None:
    model = graph(helper.make_node("Sqrt", ["shifted"], ["c"], "root"))
    model.graph.node.insert(2, helper.make_node("Sub", ["b", "limit"], ["shifted"], "shift"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "limit"))
    loud = np.tile(np.linalg.lstsq(WEIGHT, np.full(3, 50.0), rcond=None)[0], (len(x), 1)).astype(np.float32)
    loud[217] = 0  # below 1, and its root is not a number
    with pytest.raises(InputError, match="'c' is NaN for sample 217 of the data"):
        observe(model if batch is None else at_batch(model, batch), part_of(loud), tmp_path, threads=1)


def test_an_empty_part_is_refused(x: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calibration part is empty"):
        observe(graph(), replace(part_of(x), indices=np.arange(0)), tmp_path, threads=1)
