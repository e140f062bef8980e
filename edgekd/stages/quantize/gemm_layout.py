"""The weights of Gemm as those of MatMul lie: (inputs, outputs).

ONNX Runtime runs packed weights in this layout only, and its dynamic quantizer turns the other one into it and leaves the
old shape behind, at which shape inference fails.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper


def transpose_weights(model: onnx.ModelProto, *, copy_shared: bool = False) -> None:
    """Transpose the constant weights of Gemm nodes to (inputs, outputs), in place, and forget inner shapes.

    A weight that something else reads as it lies is left alone, or, with `copy_shared`, copied for the Gemm nodes.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    readers: dict[str, list[tuple[onnx.NodeProto, onnx.AttributeProto]]] = {}
    for node in model.graph.node:
        turned = next((one for one in node.attribute if one.name == "transB" and one.i), None)
        if node.op_type == "Gemm" and turned is not None and node.input[1] in constants:
            readers.setdefault(node.input[1], []).append((node, turned))
    for name, nodes in readers.items():
        alone = uses[name] == len(nodes)
        if not alone and not copy_shared:
            continue
        wanted = name if alone else f"{name}/transposed"
        values = np.ascontiguousarray(numpy_helper.to_array(constants[name]).T)
        turned_weight = numpy_helper.from_array(values, wanted)
        if alone:
            constants[name].CopyFrom(turned_weight)
        else:
            model.graph.initializer.append(turned_weight)
        for node, turned in nodes:
            node.input[1] = wanted
            node.attribute.remove(turned)
    del model.graph.value_info[:]  # the old shapes are among them
