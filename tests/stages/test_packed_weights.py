"""Trained low-bit weights in a file: it runs, agrees with the graph, and is as small as the formula says."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgekd.models.exported_graph import set_adapting, set_training
from edgekd.models.fake_quantization import Simulation, prepare_graph
from edgekd.models.onnx_graph import LEVELS, count_parameters
from edgekd.models.precision import needs, precision_of
from edgekd.models.signature import Signature, TensorSpec
from edgekd.models.weight_rounding import HIGHEST, Weights, stored_bits
from edgekd.stages.export.packed_weights import packed
from edgekd.stages.export.prepared_writer import write_prepared
from edgekd.target import QuantizationScheme
from tests.exact import run_exactly

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3, 8, 8)),))


class Net(nn.Module):
    """Convolutions, in groups and transposed, with and without batch norm, and linear layers of odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise, self.up = nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 5, 3)
        self.hidden, self.head = nn.Linear(5 * 64, 37), nn.Linear(37, 5)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)  # decisions that do not hang on a last digit

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.depthwise(self.stem(x)).relu()).relu()
        return self.head(self.hidden(x.flatten(1)).relu())


MODES = {
    "W8A8 learned": {"scales": "learned"},
    "W4A8": {"weights": "int4"},
    "W8A16": {"activations": "float"},
    "W4A16": {"weights": "int4", "activations": "float"},
    "W4A16 in blocks, learned": {"weights": "int4", "activations": "float", "block": 32, "scales": "learned"},
    "ternary": {"weights": "ternary", "activations": "float", "block": 128},
}


def graph_of(network: nn.Module, signature: Signature, **mode: object) -> torch.fx.GraphModule:
    """Return a prepared graph whose ranges are those of a batch."""
    simulation = Simulation.model_validate({"scheme": QuantizationScheme(), **mode})
    graph = prepare_graph(network.eval(), signature, simulation)
    set_adapting(graph, True)
    set_training(graph, True)
    graph(inputs(signature, 0))
    set_adapting(graph, False)
    set_training(graph, False)
    return graph


def inputs(signature: Signature, seed: int) -> Tensor:
    return torch.randn((300, *signature.inputs[0].shape[1:]), generator=torch.Generator().manual_seed(seed))


def run(path: Path, x: Tensor) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})[0]


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_the_file_runs_and_decides_as_the_graph_does(mode: str, tmp_path: Path) -> None:
    graph, path = graph_of(Net(), SIGNATURE, **MODES[mode]), tmp_path / "model.onnx"
    write_prepared(graph, SIGNATURE, path)
    x = inputs(SIGNATURE, 1)
    (found,) = run_exactly(path, {"x": x.numpy()}).values()
    expected = graph(x).numpy()
    assert run(path, x).shape == expected.shape
    assert (expected.argmax(1) == found.argmax(1)).mean() >= 0.99
    if MODES[mode].get("activations") == "float":
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    model = onnx.load(str(path))
    assert model.opset_import[0].version == 20 and {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    kind = MODES[mode].get("weights", "int8")
    assert precision_of(model) == ("int8" if MODES[mode].get("activations") is None else f"{kind}-weights")
    assert any(tensor.name.startswith(f"{kind}{LEVELS}") for tensor in model.graph.initializer)


def test_weights_of_four_bits_run_in_the_kernels_of_eight(tmp_path: Path) -> None:
    executed = []
    for number, mode in enumerate(({}, MODES["W4A8"])):
        path = tmp_path / f"{number}.onnx"
        write_prepared(graph_of(Net(), SIGNATURE, **mode), SIGNATURE, path)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
        executed.append([one for one in operators if one.startswith("QLinear") or one == "QGemm"])
    assert executed[0] == executed[1] == ["QLinearConv", "QLinearConv", "QGemm", "QGemm"]


@pytest.mark.parametrize(("kind", "block"), [("int4", 0), ("int4", 32), ("ternary", 128)])
def test_the_file_is_as_small_as_the_formula_says(kind: Weights, block: int, tmp_path: Path) -> None:
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 512)),))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    path = tmp_path / "model.onnx"
    write_prepared(graph_of(network, signature, weights=kind, activations="float", block=block), signature, path)
    bits = sum(stored_bits(tuple(layer.weight.shape), 0, kind, block) for layer in network[::2])
    biases = sum(layer.bias.numel() * 32 for layer in network[::2])
    assert path.stat().st_size == pytest.approx((bits + biases) / 8, rel=0.02)
    assert count_parameters(onnx.load(str(path))) == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("kind", "size"), [("int4", 7), ("ternary", 10), ("int4", 8)])
def test_levels_are_packed_without_loss(kind: Weights, size: int) -> None:
    highest, bits = HIGHEST[kind], 2 if kind == "ternary" else 4
    levels = np.random.default_rng(0).integers(-highest, highest + 1, size).astype(np.int8)
    found = packed(levels, kind)
    assert found.dtype == np.uint8 and found.nbytes == -(-size * bits // 8)
    parts = [(found[0] >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    assert np.array_equal(np.concatenate(parts)[:size].astype(int) - highest, levels)


def test_scales_of_groups_are_halves_and_those_of_channels_are_not(tmp_path: Path) -> None:
    kinds = []
    for block in (0, 32):
        path = tmp_path / f"{block}.onnx"
        write_prepared(graph_of(Net(), SIGNATURE, weights="int4", activations="float", block=block), SIGNATURE, path)
        tensors = onnx.load(str(path)).graph.initializer
        kinds.append({numpy_helper.to_array(one).dtype.name for one in tensors if one.name.endswith("_scale")})
    assert kinds == [{"float32"}, {"float16"}]


@pytest.mark.parametrize("mode", ["W4A8", "W4A16", "ternary", "W8A16"])
def test_what_a_runtime_needs_for_a_file(mode: str, tmp_path: Path) -> None:
    write_prepared(graph_of(Net(), SIGNATURE, **MODES[mode]), SIGNATURE, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert ("int4" in needs(precision_of(model), model)) == (mode != "W8A16")


def test_layers_share_the_constants_that_unpack_their_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), *(nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(3)), nn.Conv2d(8, 4, 1)]
    path = tmp_path / "model.onnx"
    write_prepared(graph_of(nn.Sequential(*layers), SIGNATURE, weights="int4"), SIGNATURE, path)
    names = [tensor.name for tensor in onnx.load(str(path)).graph.initializer]
    found = [name.removeprefix(f"int4{LEVELS}") for name in names if name.startswith(f"int4{LEVELS}")]
    assert sum(name.endswith("_packed") for name in found) == len(layers)
    once = (
        "shifts",
        "mask",
        "offset",
        "zeros",
    )  # the zero points of all layers of 8 channels, and those of the one of 4
    assert sorted(name for name in found if any(one in name for one in once)) == sorted(
        ["mask", "offset", "shifts", "zeros_4", "zeros_8"]
    )


def test_biases_beside_four_bits_are_as_fine_as_beside_eight(tmp_path: Path) -> None:
    scales = {}
    for mode in ("W4A8", "W8A8 learned"):
        write_prepared(graph_of(Net(), SIGNATURE, **MODES[mode]), SIGNATURE, tmp_path / "model.onnx")
        model = onnx.load(tmp_path / "model.onnx")
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        makers = {name: node for node in model.graph.node for name in node.output}
        layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) > 2]
        found = [[constants[makers[name].input[1]] for name in node.input] for node in layers]
        for given, weight, bias in found:
            np.testing.assert_allclose(bias, given * weight, rtol=1e-6)  # integer kernels take nothing else
        scales[mode] = [weight for _, weight, _ in found]
    assert len(scales["W4A8"]) >= 4
    for four, eight in zip(scales["W4A8"], scales["W8A8 learned"], strict=True):
        np.testing.assert_allclose(four * 16 * 7, eight * 127, rtol=0.02)
