"""Writing a torch network as ONNX, with torch's dynamo exporter."""

import ast
import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgekd.errors import StageError
from edgekd.models.export_failure import export_error
from edgekd.models.exported_graph import set_training
from edgekd.models.network import example_inputs
from edgekd.models.signature import BATCH, Signature

OPSET = 20
_SCOPES = "pkg.torch.onnx.name_scopes"  # of the exporter: the modules that a node was traced in, and its own name
_TALKING = ("torch.onnx", "torch.fx.experimental.symbolic_shapes")
IR_VERSION = 10  # ONNX Runtime 1.31 reads up to 13; older runtimes on devices less


def write_onnx(module: nn.Module, signature: Signature, path: Path, *, opset: int | None = None) -> None:
    """Write the network as one ONNX file without external data, with a free batch axis where it allows one.

    Nodes are named after the modules that they come from.

    Raises:
        InputError: the network decides by the values of its data.
        StageError: the exporter cannot translate the network; the message says why.
    """
    arguments = tuple(example_inputs(signature).values())
    free = tuple({0: torch.export.Dim(BATCH, min=1, max=65_536)} for _ in signature.inputs)
    try:
        proto = _export(module, arguments, free, signature, opset or OPSET)
    except Exception:  # a network whose code fixes the batch size
        single = tuple(example_inputs(signature, 1).values())
        try:
            proto = _export(module, single, None, signature, opset or OPSET)
        except Exception as error:
            raise export_error("torch cannot export this network to ONNX", error) from error
    name_pooling(proto)
    name_by_module(proto)
    tidy(proto)
    onnx.save(proto, str(path))


def _export(
    module: nn.Module,
    arguments: tuple[torch.Tensor, ...],
    free: tuple[dict[int, torch.export.Dim], ...] | None,
    signature: Signature,
    opset: int,
) -> onnx.ModelProto:
    set_training(module, False)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            verbose=False,
            external_data=False,
            opset_version=opset,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            dynamic_shapes=free,
        )
    assert program is not None
    proto = program.model_proto
    found = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if found != opset:
        raise StageError(f"the exporter wrote opset {found}, not {opset}")
    return proto


def name_by_module(proto: onnx.ModelProto) -> None:
    """Name every node after the module of the network that it comes from, as in `blocks.0.conv1/Conv`, `/Add` outside of any."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        name = f"{_module_of(node, weights)}/{node.op_type}"
        node.name = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1


def _module_of(node: onnx.NodeProto, weights: set[str]) -> str:
    """Return the path of a node's module: that of its weight, where one was folded into it, or where torch traced it."""
    for name in node.input[1:2]:
        if name in weights and name.endswith(".weight"):
            return name.removesuffix(".weight")
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    path: list[str] = ast.literal_eval(scopes)
    return path[-2] if len(path) > 1 else ""


def name_pooling(proto: onnx.ModelProto) -> None:
    """Name a global pooling by its own operator, which integer runtimes know."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "ReduceMean" and len(node.input) == 2 and node.input[1] in constants:
            axes = sorted(numpy_helper.to_array(constants[node.input[1]]).tolist())
            attributes = {attribute.name: attribute.i for attribute in node.attribute}
            if axes in ([2, 3], [-2, -1]) and attributes.get("keepdims", 1):
                pooled = helper.make_node("GlobalAveragePool", node.input[:1], node.output, node.name)
                pooled.metadata_props.extend(node.metadata_props)
                node.CopyFrom(pooled)


def tidy(proto: onnx.ModelProto) -> None:
    """Drop what only debugging needs, paths of this machine among it, and constants that nobody reads."""
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    proto.doc_string = proto.graph.doc_string = ""
    del proto.functions[:]
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    used = {name for node in proto.graph.node for name in node.input} | {value.name for value in proto.graph.output}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter off stdout and stderr."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _TALKING)}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
