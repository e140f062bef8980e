"""Sensitivity: which activations bear no rounding to 8 bits, measured one at a time.

For every activation t that is quantized, the float network runs with t alone rounded; its noise is the squared change
of the outputs. Noise of small independent errors adds up, so t's share of the sum says what keeping t in float saves.
That share is large for a few: where an image is smooth, all pixels of an early activation have nearly one value, and its
rounding error does not average out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from edgekd.data import Part
from edgekd.evaluate import run_onnx
from edgekd.models.onnx_graph import at_batch
from edgekd.stages.quantize.observation import ACTIVATIONS

_WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")


@dataclass(frozen=True)
class Sensitivity:
    """An activation: its share of the noise, and the nodes that must run in float for it to stay in float.

    `macs` is these nodes' share of the network's multiply-accumulates.
    """

    tensor: str
    noise: float
    nodes: tuple[str, ...]
    macs: float


def measure_sensitivity(
    prepared: onnx.ModelProto, quantized: onnx.ModelProto, part: Part, workdir: Path, threads: int
) -> list[Sensitivity]:
    """Measure every activation that `quantized` rounds and that lies between weighted layers; the noisiest first.

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
    macs = _macs(prepared)
    path = workdir / "sensitivity.onnx"
    onnx.save(prepared, str(path))
    reference = run_onnx(path, part, threads)
    noise: dict[str, float] = {}
    for node in quantized.graph.node:
        name = node.input[0]
        if node.op_type != "QuantizeLinear" or name in own or name in noise or name not in users:
            continue
        onnx.save(_rounded(prepared, name, constants[node.input[1]], constants[node.input[2]]), str(path))
        outputs = run_onnx(path, part, threads)
        noise[name] = float(sum(np.square(outputs[key] - reference[key], dtype=np.float64).sum() for key in reference))
    path.unlink()
    total, work = max(sum(noise.values()), 1e-30), max(sum(macs.values()), 1)
    found = []
    for name, value in noise.items():
        maker = makers.get(name)
        while maker is not None and maker.op_type in ACTIVATIONS:
            maker = makers.get(maker.input[0])
        around = [*([maker] if maker is not None else []), *users[name]]
        if all(node.op_type in _WEIGHTED for node in around):
            names = tuple(dict.fromkeys(node.name for node in around))
            found.append(Sensitivity(name, value / total, names, sum(macs.get(one, 0) for one in names) / work))
    return sorted(found, key=lambda one: -one.noise)


def _rounded(
    model: onnx.ModelProto, name: str, scale: onnx.TensorProto, zero_point: onnx.TensorProto
) -> onnx.ModelProto:
    """Return the float graph in which everything that uses a tensor gets it rounded."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = []
    for node in changed.graph.node:
        for position, wanted in enumerate(node.input):
            if wanted == name:
                node.input[position] = f"{name}/rounded"
        nodes.append(node)
    integers = f"{name}/integers"
    pair = [
        helper.make_node("QuantizeLinear", [name, scale.name, zero_point.name], [integers]),
        helper.make_node("DequantizeLinear", [integers, scale.name, zero_point.name], [f"{name}/rounded"]),
    ]
    position = next((number for number, node in enumerate(nodes) if name in node.output), -1) + 1
    ordered = [*nodes[:position], *pair, *nodes[position:]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    changed.graph.initializer.extend([scale, zero_point])
    return changed


def _macs(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-accumulates of one sample in every Conv and Gemm, by node."""
    inferred = onnx.shape_inference.infer_shapes(at_batch(model, 1), data_prop=True)
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        shapes[value.name] = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    return {
        node.name: int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        if node.op_type == "Conv"
        else int(np.prod(shapes[node.input[1]]))
        for node in inferred.graph.node
        if node.op_type in ("Conv", "Gemm") and node.input[1] in shapes and node.output[0] in shapes
    }
