"""Preparation: the float graph that is quantized, folded, with names, and without what cannot be."""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx.version_converter

from edgekd.errors import InputError, StageError
from edgekd.models.onnx_graph import graph_inputs, name_nodes

_MIN_OPSET = 13  # the first one with a scale for each channel
_MIN_IR = 7  # which came with it


def prepare(source: Path, destination: Path, log: Callable[[str], None] = lambda message: None) -> onnx.ModelProto:
    """Fold what can be folded and infer shapes, so that batch norms and constants are not quantized on their own.

    A graph in an opset without a scale for each channel is converted to a later one. Every node of the graph that is written and returned has a name of its own.

    Raises:
        InputError: the graph decides at run time what it computes.
        StageError: ONNX Runtime cannot read the graph.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with quiet():
            source = _modern(source, destination.with_suffix(".converted.onnx"), log)
            quant_pre_process(str(source), str(destination), skip_symbolic_shape=True)
    except Exception as error:  # its errors have no common base
        raise StageError(f"ONNX Runtime cannot prepare the graph for quantization: {error}") from error
    prepared = onnx.load(str(destination))
    inputs = graph_inputs(prepared)  # without weights, which old files list too
    del prepared.graph.input[:]
    prepared.graph.input.extend(inputs)
    prepared.ir_version = max(prepared.ir_version, _MIN_IR)
    name_nodes(prepared)
    _refuse_branches(prepared)
    onnx.save(prepared, str(destination))
    return prepared


def _modern(source: Path, destination: Path, log: Callable[[str], None]) -> Path:
    """Return the graph in an opset that has a scale for each channel: the file itself, or a converted copy."""
    model = onnx.load(str(source))
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), _MIN_OPSET)
    if opset >= _MIN_OPSET:
        return source
    log(f"quantize: the graph is converted from opset {opset} to {_MIN_OPSET}")
    onnx.save(onnx.version_converter.convert_version(model, _MIN_OPSET), str(destination))
    return destination


def _refuse_branches(model: onnx.ModelProto) -> None:
    """Refuse If, Loop and Scan that folding left: what a branch computes is not seen in every run of the calibration part."""
    found = [
        f"{node.op_type} {node.name!r}"
        for node in model.graph.node
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        )
    ]
    if found:
        raise InputError(
            f"quantize: the graph decides at run time what it computes ({', '.join(found[:3])}{' ...' if len(found) > 3 else ''}); "
            "export it with the condition or the number of steps fixed, or leave quantize out"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the advice of quantizers off the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
