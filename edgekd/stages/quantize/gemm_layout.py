"""The weights of Gemm as those of MatMul lie: (inputs, outputs).

ONNX Runtime runs packed weights in this layout only, and its dynamic quantizer turns the other one into it and leaves the
old shape behind, at which shape inference fails.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper


def transpose_weights(model: onnx.ModelProto) -> None:
    """Transpose the constant weights of Gemm nodes to (inputs, outputs), in place, and forget inner shapes."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        turned = next((one for one in node.attribute if one.name == "transB" and one.i), None)
        if node.op_type != "Gemm" or turned is None or node.input[1] not in constants or uses[node.input[1]] > 1:
            continue
        tensor = constants[node.input[1]]
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(tensor).T), tensor.name))
        node.attribute.remove(turned)
    del model.graph.value_info[:]  # the old shapes are among them
