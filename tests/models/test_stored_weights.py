import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekd.models.stored_weights import StoredWeights, stored_weights


def test_bytes_go_to_the_layer_that_meets_an_activation() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["w", "w_scale"], ["w_float"], name="unpack"),
        helper.make_node("Constant", [], ["turn"], value=numpy_helper.from_array(np.zeros(2, np.int64))),
        helper.make_node("Transpose", ["w_float"], ["w_turned"], name="turned"),
        helper.make_node("MatMul", ["d", "w_turned"], ["y"], name="product"),
        helper.make_node("Reshape", ["y", "turn"], ["z"], name=""),
    ]
    constants = [
        numpy_helper.from_array(np.ones((4, 8), np.int8), "w"),
        numpy_helper.from_array(np.float32(0.1), "w_scale"),
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.uint8(0), "zero"),
        helper.make_tensor("unused", TensorProto.INT4, [3], [1, 2, 3]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [z], constants))
    assert stored_weights(model) == [
        StoredWeights("product", "float32", 1, 4),
        StoredWeights("product", "int8", 32, 32),
        StoredWeights("z", "int64", 2, 16),
        StoredWeights(None, "float32", 1, 4),
        StoredWeights(None, "int4", 3, 2),
        StoredWeights(None, "uint8", 1, 1),
    ]


def test_what_a_file_keeps_is_nearly_all_of_it() -> None:
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], "g", [x], [y], [weights])
    model: onnx.ModelProto = helper.make_model(graph)
    (found,) = stored_weights(model)
    assert found.layer == "m" and 0.98 < found.bytes / model.ByteSize() < 1
