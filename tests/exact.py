"""What a written graph says, computed without the processor's 8-bit instructions: those of x86 without VNNI saturate."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgekd.data import Part

_IN_INTEGERS = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")


def run_exactly(path: Path, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the outputs by name: Q/DQ pairs in floating point, integer operators by onnx's own reference."""
    model = onnx.load(str(path))
    names = [output.name for output in model.graph.output]
    if any(node.op_type in _IN_INTEGERS for node in model.graph.node):
        results = ReferenceEvaluator(model).run(names, dict(feeds))
    else:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        results = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(names, feeds)
    return dict(zip(names, map(np.asarray, results), strict=True))


def run_part_exactly(path: Path, part: Part) -> dict[str, NDArray[Any]]:
    """Return the outputs for the samples of a part."""
    return run_exactly(path, part.inputs())
