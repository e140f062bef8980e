"""Copies of an ONNX graph with more real computation: a branch beside the network, from its image to its answer.

```
 image ──┬──────────── the network ─────────────────▶ Add ──▶ answer
         └─▶ Conv (1 to M) ─▶ Conv (M to M) ─▶ mean ─▶ Gemm ─┘      M and the kernel decide how much longer it takes
```
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

WIDTHS = (16, 24, 28, 32, 36, 40)
KERNELS = (3, 5, 7)


def write_variants(path: Path, folder: Path, name: str) -> list[Path]:
    """Write copies of a model with branches of several widths and kernels of their first convolution; return their files."""
    files = []
    for width in WIDTHS:
        for kernel in KERNELS:
            files.append(folder / f"{name}-{width}-{kernel}.onnx")
            onnx.save(with_branch(onnx.load(str(path)), width, kernel), str(files[-1]))
    return files


def with_branch(model: onnx.ModelProto, width: int, kernel: int) -> onnx.ModelProto:
    """Add the branch to a classifier of images with one input and one output."""
    image, answer = model.graph.input[0], model.graph.output[0]
    channels = image.type.tensor_type.shape.dim[1].dim_value
    classes = answer.type.tensor_type.shape.dim[1].dim_value
    generator = np.random.default_rng(0)
    sizes = {
        "branch.w1": (width, channels, kernel, kernel),
        "branch.w2": (width, width, 3, 3),
        "branch.w3": (width, classes),
    }
    for name, size in sizes.items():
        weights = (generator.standard_normal(size) * 1e-3).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == answer.name:
                node.output[index] = "branch.network"
    pads = [1, 1, 1, 1]
    model.graph.node.extend(
        [
            helper.make_node("Conv", [image.name, "branch.w1"], ["branch.1"], pads=[kernel // 2] * 4),
            helper.make_node("Conv", ["branch.1", "branch.w2"], ["branch.2"], pads=pads, strides=[2, 2]),
            helper.make_node("GlobalAveragePool", ["branch.2"], ["branch.3"]),
            helper.make_node("Flatten", ["branch.3"], ["branch.4"]),
            helper.make_node("MatMul", ["branch.4", "branch.w3"], ["branch.5"]),
            helper.make_node("Add", ["branch.network", "branch.5"], [answer.name]),
        ]
    )
    onnx.checker.check_model(model)
    return model
