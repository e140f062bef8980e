"""A look into a model file: what it is, its layers, what pruning may cut, and what each target would refuse."""

import math
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekd.errors import EdgekdError, InputError
from edgekd.models import onnx_graph
from edgekd.models.loading import archive_inputs, detect_format, load_network, load_onnx
from edgekd.models.loading.pickle_scan import globals_of
from edgekd.models.loading.pickled import load_pickled
from edgekd.models.loading.reading import shown
from edgekd.models.loading.safetensors_file import load_safetensors
from edgekd.models.loading.trust import trusted_globals
from edgekd.models.network import count_macs, count_parameters, example_inputs, named_outputs
from edgekd.models.precision import NEEDS, Precision, needs, precision_of
from edgekd.models.signature import Signature, TensorSpec, read_sidecar
from edgekd.models.source import SOURCE, Opening, kept_data, open_model
from edgekd.request import signature_of_data
from edgekd.stages.export import EXPORTERS, write_onnx
from edgekd.stages.prune.groups import Group, prunable_groups
from edgekd.stages.prune.sensitivity import Sensitivity
from edgekd.state import TorchForm
from edgekd.target import Target
from edgekd.verbs.runs import last_file

_PICKLED = ("module", "state-dict")
_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}  # a weight
_BATCH = 2  # a batch of one would hide which axis is the batch

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Layer:
    """One layer, or one ONNX node with weights; `shape` is its output's with `N` for the batch, None if not known.

    `macs` are the multiply-accumulates of one sample, None where they are not counted.
    """

    name: str
    type: str
    shape: Shape | None
    parameters: int
    macs: int | None


@dataclass(frozen=True)
class Refusal:
    """What one target would refuse of a model; no reasons: nothing was found."""

    target: str
    runtime: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """All that is found out about a model file without running any of its code.

    `asks_for` maps the classes and functions that a pickled file names to whether they are trusted. `tensors` are those
    of a file of weights. `problem` says why the rest is not known, or is None.
    """

    name: str
    format: str
    bytes: int
    asks_for: dict[str, bool] | None = None
    precision: Precision | None = None
    opset: int | None = None
    operators: dict[str, int] | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    batch: int | None = None
    parameters: int | None = None
    macs: int | None = None
    layers: tuple[Layer, ...] = ()
    groups: tuple[Group, ...] | None = None
    sensitivity: Sensitivity | None = None
    tensors: dict[str, tuple[int, ...]] | None = None
    targets: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        specs = {role: [spec.model_dump(mode="json") for spec in getattr(self, role)] for role in ("inputs", "outputs")}
        plain = asdict(replace(self, inputs=(), outputs=()))
        return {"schema": 1, **plain, **specs}


def inspect_model(path: Path, opening: Opening, targets: Sequence[Target]) -> Inspection:
    """Look into a model file, or into the last state of a run directory.

    What a file asks for is listed even where it is not trusted; layers are listed even where the inputs are not known.

    Raises:
        InputError: there is no such file, or it is no model.
    """
    if path.is_dir():
        return _directory(path, opening, targets)
    kind = detect_format(path)
    found = Inspection(path.name, kind, path.stat().st_size)
    if kind in _PICKLED:
        found = replace(found, asks_for=_asked(path, opening.trust))
    try:
        if kind == "onnx":
            return _onnx_file(found, path, targets)
        weights = _weights(path, kind, opening)
        if weights is not None:
            return weights_only(found, path, weights)
        specs = opening.inputs or read_sidecar(path).inputs or archive_inputs(path)
        if not specs:
            return _without_inputs(found, path, opening)
        opened = open_model(path, opening)
        return _network(found, opened.state.torch.module, opened.state.signature, targets)
    except InputError as error:
        return replace(found, problem=str(error))


def _directory(path: Path, opening: Opening, targets: Sequence[Target]) -> Inspection:
    """Return what the network of a run's last state tells, where that is one of torch and can be opened; else its file."""
    file, notes = last_file(path), []
    if (path / SOURCE).is_file():
        try:
            opened = open_model(path, opening, signature_of_data(kept_data(path)))
            if isinstance(opened.state.form, TorchForm):
                found = Inspection(str(path), opened.format, file.stat().st_size)
                return _network(found, opened.state.form.module, opened.state.signature, targets)
        except InputError as error:
            notes.append(f"the file alone is shown, not the network with its groups: {error}")
    found = inspect_model(file, opening, targets)
    return replace(found, name=str(file), notes=(*found.notes, *notes))


def _asked(path: Path, trust: Sequence[str]) -> dict[str, bool]:
    """Return every class and function that a file asks for, and whether it may have it."""
    asked = {}
    for module, name in sorted(globals_of(path)):
        try:
            trusted_globals(path, [(module, name)], trust)
            trusted = True
        except InputError:
            trusted = False
        asked[shown(f"{module}.{name}")] = trusted
    return asked


def _weights(path: Path, kind: str, opening: Opening) -> dict[str, Tensor] | None:
    """Return the tensors of a file of weights for which nothing builds the network, else None."""
    if opening.factory is not None or kind not in (*_PICKLED, "safetensors"):
        return None
    content = load_safetensors(path) if kind == "safetensors" else load_pickled(path, opening.trust)
    return None if isinstance(content, nn.Module) else content


def weights_only(found: Inspection, path: Path, weights: dict[str, Tensor]) -> Inspection:
    """Return what a file of weights tells: its tensors."""
    return replace(
        found,
        tensors={shown(name): tuple(tensor.shape) for name, tensor in weights.items()},
        parameters=sum(tensor.numel() for tensor in weights.values()),
        problem=f"{path} holds weights only; --model package.module:function builds the network they belong to",
    )


def _without_inputs(found: Inspection, path: Path, opening: Opening) -> Inspection:
    module = load_network(path, trust=opening.trust, factory=opening.factory)
    note = f"shapes, multiply-accumulates, groups and targets need the inputs: {input_hint(module)}, or a model.toml"
    return replace(found, parameters=count_parameters(module), layers=tuple(layers_of(module)), notes=(note,))


def input_hint(module: nn.Module) -> str:
    """Return the --input option that a network seems to need, as far as its first weighted layer tells."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            sizes = {1: ("LENGTH",), 2: ("HEIGHT", "WIDTH"), 3: ("DEPTH", "HEIGHT", "WIDTH")}[len(layer.kernel_size)]
            return "--input " + "x".join(("N", str(layer.in_channels), *sizes))
        if isinstance(layer, nn.Linear):
            return f"--input Nx{layer.in_features}"
        if isinstance(layer, nn.RNNBase):
            return f"--input NxSTEPSx{layer.input_size}"
    return "--input [NAME:]SHAPE"


def _network(found: Inspection, module: nn.Module, signature: Signature, targets: Sequence[Target]) -> Inspection:
    notes = []
    macs: int | None = None
    groups: tuple[Group, ...] | None = None
    try:
        groups = tuple(prunable_groups(module, signature))
    except InputError as error:
        notes.append(str(error))
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            write_onnx(module, signature, path)
            graph = onnx.load(str(path))
            macs = onnx_graph.count_macs(path)  # also counts recurrent layers, which torch does not
        except EdgekdError as error:
            graph = None
            notes.append(str(error))
    if macs is None:
        macs = count_macs(module, signature)
    return replace(
        found,
        precision="fp32",
        inputs=signature.inputs,
        outputs=signature.outputs,
        operators=None if graph is None else _operators(graph),
        batch=None if graph is None else onnx_graph.fixed_batch(graph),
        parameters=count_parameters(module),
        macs=macs,
        layers=tuple(layers_of(module, signature)),
        groups=groups,
        notes=tuple(notes),
        targets=tuple(
            refusal(target, count_parameters(module), "fp32", signature.inputs, graph, None) for target in targets
        ),
    )


def layers_of(module: nn.Module, signature: Signature | None = None) -> list[Layer]:
    """Return the layers that hold parameters themselves or no further layers, in the network's own order.

    With a signature the network is run once, and the layers have shapes and multiply-accumulates.
    """
    chosen = {
        name: layer
        for name, layer in module.named_modules()
        if name and (not any(layer.children()) or any(True for _ in layer.parameters(recurse=False)))
    }
    if not chosen:  # the network is one layer
        chosen = {"": module}
    shapes: dict[str, Shape] = {}
    macs: dict[str, int] = {}
    if signature is not None:
        shapes, macs = _run_once(module, signature, chosen)
    return [
        Layer(
            shown(name) or "(the network)",
            type(layer).__name__,
            shapes.get(name),
            sum(parameter.numel() for parameter in layer.parameters(recurse=False)),
            macs.get(name),
        )
        for name, layer in chosen.items()
    ]


@torch.no_grad()
def _run_once(
    module: nn.Module, signature: Signature, chosen: dict[str, nn.Module]
) -> tuple[dict[str, Shape], dict[str, int]]:
    """Return the output shape of each layer at its first call, and the multiply-accumulates of one sample."""
    shapes: dict[str, Shape] = {}

    def note(name: str, output: Any) -> None:
        try:
            first = next(iter(named_outputs(output).values()))
        except (InputError, StopIteration):
            return
        sizes = tuple(first.shape)
        shapes.setdefault(name, ("N", *sizes[1:]) if sizes and sizes[0] == _BATCH else sizes)

    hooks = [
        layer.register_forward_hook(lambda layer, _inputs, output, name=name: note(name, output))
        for name, layer in chosen.items()
    ]
    counter = FlopCounterMode(display=False)
    try:
        with warnings.catch_warnings(), counter:
            warnings.simplefilter("ignore")
            module(*example_inputs(signature, _BATCH).values())
    finally:
        for hook in hooks:
            hook.remove()
    root = type(module).__name__
    counted = counter.get_flop_counts()
    operations = {name: sum(counted.get(f"{root}.{name}", {}).values()) for name in chosen}
    return shapes, {name: count // 2 // _BATCH for name, count in operations.items() if count}


def _onnx_file(found: Inspection, path: Path, targets: Sequence[Target]) -> Inspection:
    graph = load_onnx(path)
    notes = []
    signature: Signature | None = None
    try:
        signature = onnx_graph.graph_signature(graph)
    except InputError as error:
        notes.append(str(error))
    macs: int | None = None
    if signature is not None:
        try:
            macs = onnx_graph.count_macs(path)
        except Exception as error:  # a graph that ONNX cannot infer
            notes.append(f"the multiply-accumulates cannot be counted: {type(error).__name__}: {error}")
        else:
            notes += [] if macs is not None else ["the multiply-accumulates cannot be counted: shapes are not known"]
    precision = precision_of(graph)
    parameters = onnx_graph.count_parameters(graph)
    opset = next((entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")), None)
    inputs = signature.inputs if signature else ()
    return replace(
        found,
        precision=precision,
        opset=opset,
        operators=_operators(graph),
        inputs=inputs,
        outputs=signature.outputs if signature else (),
        batch=onnx_graph.fixed_batch(graph),
        parameters=parameters,
        macs=macs,
        layers=tuple(_nodes(graph)),
        notes=tuple(notes),
        targets=tuple(refusal(target, parameters, precision, inputs, graph, opset) for target in targets),
    )


def _operators(graph: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(shown(node.op_type) for node in graph.graph.node).most_common())


def _nodes(graph: onnx.ModelProto) -> list[Layer]:
    """Return the nodes with weights; quantized weights count for the node behind their DequantizeLinear."""
    shapes_only = onnx.TensorProto.INT64  # for Reshape and its like
    sizes = {
        tensor.name: math.prod(tensor.dims) for tensor in graph.graph.initializer if tensor.data_type != shapes_only
    }
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    shapes: dict[str, Shape] = {}
    try:
        inferred = onnx.shape_inference.infer_shapes(onnx_graph.at_batch(graph, 1))
        for value in (*inferred.graph.value_info, *inferred.graph.output):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(axis.dim_value if axis.HasField("dim_value") else "?" for axis in dims)
    except Exception:  # the table goes without shapes
        shapes = {}
    found = []
    for node in graph.graph.node:
        weights = sum(sizes.get(name, 0) for name in node.input if sizes.get(name, 0) > 1)
        if weights and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            shape = shapes.get(node.output[0])
            batched = None if not shape else ("N", *shape[1:])
            found.append(Layer(shown(node.name) or "(no name)", shown(node.op_type), batched, weights, None))
    return found


def refusal(
    target: Target,
    parameters: int,
    precision: Precision,
    inputs: Sequence[TensorSpec],
    graph: onnx.ModelProto | None,
    opset: int | None,
) -> Refusal:
    """Return what a target would refuse of a model as it is; `graph` is its ONNX graph, None if it has none.

    `opset` is that of an ONNX file, None for a torch network, which is written in the opset that the target wants.
    """
    runtime_name = target.default_runtime
    runtime = target.runtime[runtime_name]
    reasons = []
    if runtime_name not in EXPORTERS:
        usable = [name for name in target.runtime if name in EXPORTERS]
        way = f" (--runtime {usable[0]} is there)" if usable else ""
        reasons.append(f"no export for {runtime_name} yet{way}")
    if graph is None:
        reasons.append("the network cannot be written as ONNX")
    else:
        reasons += _wrong_graph(target, graph, opset)
    if opset is not None and graph is not None and not needs(precision, graph) <= set(runtime.precisions):
        packed = " with packed weights" if needs(precision, graph) > set(NEEDS[precision]) else ""
        reasons.append(f"the file is {precision}{packed}, it runs {', '.join(runtime.precisions)}")
    least = min((_BYTES[kind] for kind in runtime.precisions if kind in _BYTES), default=None)
    allowed = min((size for size in (target.limits.model_bytes, target.limits.memory_bytes) if size), default=None)
    if least is not None and allowed is not None and parameters * least > allowed:
        reasons.append(f"{parameters * least / 1e6:,.1f} MB of weights at least, {allowed / 1e6:,.1f} MB fit; prune it")
    channels = target.limits.input_channels
    for spec in inputs:
        if channels is not None and len(spec.shape) > 1 and int(spec.shape[1]) > channels:
            reasons.append(f"input {spec.name} has {spec.shape[1]} channels, {channels} are allowed")
    return Refusal(target.name, runtime_name, tuple(reasons))


def _wrong_graph(target: Target, graph: onnx.ModelProto, opset: int | None) -> list[str]:
    runtime = target.runtime[target.default_runtime]
    reasons = []
    if target.limits.operators is not None:
        handled = {*target.limits.operators, "Constant", "QuantizeLinear", "DequantizeLinear"}
        foreign = sorted({shown(node.op_type) for node in graph.graph.node} - handled)
        if foreign:
            reasons.append(f"operators it does not execute: {', '.join(foreign)}")
    batch = onnx_graph.fixed_batch(graph)
    if batch is not None:
        if isinstance(runtime.batch, int) and batch != runtime.batch:
            reasons.append(f"the batch is fixed to {batch}, it takes {runtime.batch}")
        elif target.limits.max_batch is not None and batch > target.limits.max_batch:
            reasons.append(f"the batch is fixed to {batch}, it takes {target.limits.max_batch} at most")
    if opset is not None and runtime.reads_opset is not None and opset > runtime.reads_opset:
        reasons.append(f"the file has opset {opset}, it takes up to {runtime.reads_opset}")
    return reasons
