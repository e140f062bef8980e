"""Sensitivity: which activations bear no rounding to 8 bits, measured one at a time.

For every activation t that is quantized, the float network runs with t alone rounded; its noise is the squared change
of the outputs, each as a share of the output's own squares. Noise of small independent errors adds up, so t's share of the sum says what keeping t in float saves.
That share is large for a few: where an image is smooth, all pixels of an early activation have nearly one value, and its
rounding error does not average out.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgekd.data import Part
from edgekd.evaluate import run_onnx
from edgekd.models.onnx_graph import node_macs, refill
from edgekd.models.qdq_graph import ACTIVATIONS


@dataclass(frozen=True)
class Sensitivity:
    """An activation: its share of the noise, and the nodes that must run in float for it to stay in float.

    `nodes` maps each of them to its price: its share of the network's multiply-accumulates, or of its weights if larger.
    """

    tensor: str
    noise: float
    nodes: dict[str, float]


def measure_sensitivity(
    prepared: onnx.ModelProto, quantized: onnx.ModelProto, part: Part, workdir: Path, threads: int
) -> list[Sensitivity]:
    """Measure every activation that `quantized` rounds; return those between convolutions or Gemm, the noisiest first.

    Scale and zero point are those in `quantized`. An activation that an Add or Concat makes or takes is left out: to keep
    it in float, much would have to be.
    """
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    own = {tensor.name for tensor in prepared.graph.initializer}
    makers = {name: node for node in prepared.graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in prepared.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    prices = _prices(prepared)
    path = workdir / "sensitivity.onnx"
    onnx.save(prepared, str(path))
    reference = {key: array for key, array in run_onnx(path, part, threads).items() if array.dtype.kind == "f"}
    noise: dict[str, float] = {}
    for node in quantized.graph.node:
        name = node.input[0]
        if node.op_type != "QuantizeLinear" or name in own or name in noise or name not in users:
            continue
        onnx.save(_rounded(prepared, node, constants[node.input[1]], constants[node.input[2]]), str(path))
        outputs = run_onnx(path, part, threads)
        noise[name] = sum(squared_change(outputs[key], wanted) for key, wanted in reference.items())
    path.unlink()
    total = max(sum(noise.values()), 1e-30)
    found = []
    for name, value in noise.items():
        maker = makers.get(name)
        while maker is not None and maker.op_type in ACTIVATIONS:
            maker = makers.get(maker.input[0])
        around = [*([maker] if maker is not None else []), *users[name]]
        if all(node.name in prices for node in around):
            found.append(Sensitivity(name, value / total, {node.name: prices[node.name] for node in around}))
    return sorted(found, key=lambda one: -one.noise)


def squared_change(output: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the squared change of an output, as a share of the output's own squares."""
    finite = np.isfinite(output) & np.isfinite(wanted)
    one, other = (np.where(finite, array, 0).astype(np.float64) for array in (output, wanted))
    return float(np.square(one - other).sum() / max(np.square(other).sum(), 1e-30))


def _rounded(
    model: onnx.ModelProto, rounding: onnx.NodeProto, scale: onnx.TensorProto, zero_point: onnx.TensorProto
) -> onnx.ModelProto:
    """Return the float graph in which everything that uses a tensor gets it rounded, as `rounding` does it."""
    name, domain = rounding.input[0], rounding.domain
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if domain not in {one.domain for one in changed.opset_import}:
        changed.opset_import.append(helper.make_opsetid(domain, 1))
    nodes = []
    for node in changed.graph.node:
        for position, wanted in enumerate(node.input):
            if wanted == name:
                node.input[position] = f"{name}/rounded"
        nodes.append(node)
    integers = f"{name}/integers"
    pair = [
        helper.make_node("QuantizeLinear", [name, scale.name, zero_point.name], [integers], domain=domain),
        helper.make_node(
            "DequantizeLinear", [integers, scale.name, zero_point.name], [f"{name}/rounded"], domain=domain
        ),
    ]
    position = next((number for number, node in enumerate(nodes) if name in node.output), -1) + 1
    ordered = [*nodes[:position], *pair, *nodes[position:]]
    refill(changed.graph.node, ordered)
    changed.graph.initializer.extend([scale, zero_point])
    return changed


def _prices(model: onnx.ModelProto) -> dict[str, float]:
    """Return what it costs to keep each Conv and Gemm in float."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    layers = [
        (node.name, macs, sizes[node.input[1]])
        for node, macs in node_macs(model)
        if macs is not None and node.op_type in ("Conv", "Gemm") and node.input[1] in sizes
    ]
    macs = max(sum(layer[1] for layer in layers), 1)
    weights = max(sum(layer[2] for layer in layers), 1)
    return {name: max(own_macs / macs, own_weights / weights) for name, own_macs, own_weights in layers}
