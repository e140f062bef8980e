"""TensorRT as the executor: explicit Q/DQ, symmetric int8, where its fused kernels take integers and nowhere else.

A layer's input is rounded and its weight stored in int8 behind DequantizeLinear, a scale an output channel; its bias
stays in float. Of an addition behind a layer the other input is rounded, so that both are one kernel. Source: NVIDIA,
Working with Quantized Types (explicit quantization); `models/tensorrt_form.py` checks the file.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekd.context import Context
from edgekd.errors import StageError
from edgekd.models.tensorrt_form import LAYERS, faults, layer_axis
from edgekd.stages.export.onnx_writer import IR_VERSION
from edgekd.stages.quantize.calibration import Range
from edgekd.stages.quantize.executors.calibrated import CalibratedQuantizer
from edgekd.stages.quantize.executors.executor import Executor, refuse_foreign
from edgekd.stages.quantize.rounding import RoundedLayer, with_rounded
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.target import QuantizationScheme

_LARGEST = 127  # of an activation, both ways


def write_explicit(
    prepared: onnx.ModelProto,
    ranges: dict[str, Range],
    layers: list[RoundedLayer],
    scheme: QuantizationScheme,
    keep_float: tuple[str, ...],
    path: Path,
) -> None:
    """Write the graph with these activation ranges and rounded layers; other weights are rounded here.

    Raises:
        StageError: the file breaks one of TensorRT's rules.
    """
    form = _ExplicitForm(prepared, ranges, layers, scheme, set(keep_float))
    model = form.model()
    wrong = [str(fault) for fault in faults(model) if fault.effect != "slower"]
    if wrong:
        raise StageError(f"TensorRT would not run this file in int8: {'; '.join(wrong[:3])}")
    onnx.save(model, str(path))


class _ExplicitForm:
    def __init__(
        self,
        prepared: onnx.ModelProto,
        ranges: dict[str, Range],
        layers: list[RoundedLayer],
        scheme: QuantizationScheme,
        keep_float: set[str],
    ) -> None:
        self._scheme, self._ranges, self._keep_float = scheme, ranges, keep_float
        self._floats = {tensor.name: tensor for tensor in prepared.graph.initializer}
        self._makers = {name: node for node in prepared.graph.node for name in node.output}
        self._order = {node.name: number for number, node in enumerate(prepared.graph.node)}
        self._uses = Counter(name for node in prepared.graph.node for name in node.input)
        self._uses.update(value.name for value in prepared.graph.output)
        self._integer = {node.name for node in prepared.graph.node if self._runs_in_integers(node)}
        own = [one for one in layers if one.layer.node in self._integer]
        self._steps = {one.layer.weight: one.steps for one in own}
        self._model = with_rounded(prepared, own)
        self._pairs: dict[str, list[onnx.NodeProto]] = {}  # what stands behind a tensor, by its name
        self._made: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        """Return the graph in explicit form."""
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self._model.graph.node]
        for node in nodes:
            if node.name in self._integer:
                node.input[0] = self._activation(node.input[0])
                node.input[1] = self._weight(node)
            elif node.op_type == "Add" and self._is_wanted(node):
                residual = self._residual(node)
                if residual is not None:
                    node.input[residual] = self._activation(node.input[residual])
        ordered = [pair for name, pairs in self._pairs.items() if name not in self._makers for pair in pairs]
        for node in nodes:
            ordered.append(node)
            ordered += [pair for name in node.output for pair in self._pairs.get(name, ())]
        model = self._model
        used = {name for node in ordered for name in node.input}
        kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
        for field in (model.graph.node, model.graph.initializer, model.graph.value_info, model.metadata_props):
            del field[:]
        model.graph.node.extend(ordered)
        model.graph.initializer.extend([*kept, *self._made.values()])
        model.ir_version = min(model.ir_version, IR_VERSION)
        return model

    def _is_wanted(self, node: onnx.NodeProto) -> bool:
        operators = self._scheme.operators or (*LAYERS, "Add")
        return node.op_type in operators and node.name not in self._keep_float

    def _runs_in_integers(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is a layer with a constant weight, whose input's range is known."""
        return (
            node.op_type in LAYERS
            and self._is_wanted(node)
            and node.input[0] in self._ranges
            and node.input[1] in self._floats
            and len(self._floats[node.input[1]].dims) > 1
        )

    def _residual(self, node: onnx.NodeProto) -> int | None:
        """Return which input of an addition is rounded: the one that is not the output of the layer in front of it."""
        fused = [self._fuses(name) for name in node.input]
        if not any(fused) or any(name in self._floats for name in node.input):
            return None
        last = max((number for number in (0, 1) if fused[number]), key=lambda one: self._place(node.input[one]))
        return 1 - last if node.input[1 - last] in self._ranges else None

    def _fuses(self, name: str) -> bool:
        maker = self._makers.get(name)
        return maker is not None and maker.name in self._integer and self._uses[name] == 1

    def _place(self, name: str) -> int:
        return self._order[self._makers[name].name]

    def _activation(self, name: str) -> str:
        """Return the tensor that has an activation's values rounded, by a pair behind it."""
        rounded = f"{name}/rounded"
        if name not in self._pairs:
            low, high = self._ranges[name]
            scale = np.asarray(max(-low, high) / _LARGEST or 1.0, np.float32)
            integers = f"{name}/int8"
            constants = self._constants(integers, scale, np.zeros((), np.int8))
            self._pairs[name] = [
                helper.make_node("QuantizeLinear", [name, *constants], [integers], f"{name}/quantize"),
                helper.make_node("DequantizeLinear", [integers, *constants], [rounded], f"{name}/dequantize"),
            ]
        return rounded

    def _weight(self, node: onnx.NodeProto) -> str:
        """Return the tensor that has a weight's values, stored in integers."""
        name = node.input[1]
        weight = numpy_helper.to_array(next(one for one in self._model.graph.initializer if one.name == name))
        axis = layer_axis(node, weight.ndim)
        integers = f"{name}/int8/{axis}"
        rounded = f"{integers}/rounded"
        if integers not in self._made:
            steps = self._steps.get(name)
            if steps is None:
                others = tuple(one for one in range(weight.ndim) if one != axis)
                largest = np.abs(weight).max(axis=others if self._scheme.per_channel else None)
                steps = np.where(largest > 0, largest / self._scheme.weight_limit, 1.0).astype(np.float32)
            scale = steps.reshape(-1) if self._scheme.per_channel else steps.reshape(())
            shaped = scale.reshape([-1 if one == axis else 1 for one in range(weight.ndim)]) if scale.ndim else scale
            limit = self._scheme.weight_limit
            levels = np.clip(np.round(weight / shaped), -limit, limit).astype(np.int8)
            self._made[integers] = numpy_helper.from_array(levels, integers)
            constants = self._constants(integers, scale, np.zeros(scale.shape, np.int8))
            along = {"axis": axis} if scale.ndim else {}
            dequantize = helper.make_node(
                "DequantizeLinear", [integers, *constants], [rounded], f"{integers}/dequantize", **along
            )
            self._pairs.setdefault(name, []).append(dequantize)
        return rounded

    def _constants(self, name: str, scale: NDArray[np.float32], zero_point: NDArray[np.int8]) -> list[str]:
        """Keep a scale and a zero point; return their names."""
        names = [f"{name}/scale", f"{name}/zero_point"]
        for one, array in zip(names, (scale, zero_point), strict=True):
            self._made[one] = numpy_helper.from_array(array, one)
        return names


def _refusal(scheme: QuantizationScheme) -> str | None:
    if scheme.activation_dtype != "int8" or not scheme.activation_symmetric or not scheme.weight_symmetric:
        return (
            "TensorRT takes symmetric int8 only: activation_dtype int8, activation_symmetric and weight_symmetric true"
        )
    if scheme.weight_dtype != "int8":
        return f"weight_dtype {scheme.weight_dtype} beside integer activations is not in TensorRT's kernels"
    return refuse_foreign(scheme)


def _calibrate(
    prepared: onnx.ModelProto, scheme: QuantizationScheme, settings: QuantizeSettings, context: Context
) -> CalibratedQuantizer:
    return CalibratedQuantizer(prepared, scheme, settings, context, write_explicit)


EXECUTOR = Executor("explicit Q/DQ, symmetric, float biases", _refusal, lambda: None, _calibrate)
