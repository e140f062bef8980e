"""Writing a fake-quantized graph as ONNX with integer weights, in Q/DQ form where activations are rounded, too."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import fx

from edgekd.models.fake_quantization import integer_graph
from edgekd.models.signature import Signature
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.export.packed_weights import pack_weights

_LARGEST = 2**31 - 1


def write_prepared(prepared: fx.GraphModule, signature: Signature, path: Path, *, opset: int | None = None) -> None:
    """Write a prepared graph as one ONNX file with integer weights and biases; the graph itself stays as it is.

    Weights of less than 8 bits are packed.

    Raises:
        StageError: the exporter cannot translate the network.
    """
    write_onnx(integer_graph(prepared), signature, path, opset=opset)
    model = onnx.load(str(path))
    pack_weights(model)
    round_biases(model)
    onnx.save(model, str(path))


def round_biases(model: onnx.ModelProto) -> None:
    """Round the biases of layers whose inputs and weights are rounded, in place: runtimes add them up in integers.

    The products have the scale s = s_x s_w of input and weights, an output channel each; the bias b becomes round(b / s) in
    int32. One that does not fit stays in float. Source: Jacob et al., Quantization and Training of Neural Networks, 2018, eq. 11.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in list(model.graph.node):
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or node.input[2] not in constants:
            continue
        rounded = [makers.get(name) for name in node.input[:2]]
        scales = [constants.get(one.input[1]) for one in rounded if one and one.op_type == "DequantizeLinear"]
        if len(scales) < 2 or None in scales:
            continue
        bias = numpy_helper.to_array(constants[node.input[2]]).astype(np.float64)
        given, weights = (numpy_helper.to_array(one).astype(np.float64) for one in scales)
        scale = (given * weights).astype(np.float32)
        levels = np.round(bias / scale)
        if np.abs(levels).max(initial=0) > _LARGEST:
            continue
        name = f"{node.output[0]}_bias"
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(levels.astype(np.int32), f"{name}_levels"),
                numpy_helper.from_array(scale, f"{name}_scale"),
            ]
        )
        inputs = [f"{name}_levels", f"{name}_scale"]
        dequantize = helper.make_node("DequantizeLinear", inputs, [name], f"{name}_dequantize", axis=0)
        model.graph.node.insert(list(model.graph.node).index(node), dequantize)
        node.input[2] = name
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
