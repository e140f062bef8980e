"""Turns an exported graph back into layers, so that it can be trained, pruned and exported again.

`torch.export` leaves calls of operators on parameters: `aten.conv2d(x, conv1.weight, conv1.bias, ...)`. Lifting puts
the layer back, `nn.Conv2d` as submodule `conv1`, wherever operator and parameter names tell which one it was; the rest
of the graph stays. The result has an ordinary train() and eval(), and does not check input shapes.
"""

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from edgekd.errors import InputError

Arguments = dict[str, Any]  # operator argument name -> its value; parameters and buffers as tensors

aten = torch.ops.aten
_META: dict[str, Any] = {"device": "meta"}  # layers are built without memory; their tensors come from the graph
_ROLES = ("weight", "bias", "running_mean", "running_var")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def _convolution(a: Arguments) -> nn.Module:
    weight: Tensor = a["weight"]
    dims = weight.ndim - 2
    settings = {key: _tuple(a[key], dims) for key in ("stride", "padding", "dilation")}
    settings |= {"kernel_size": tuple(weight.shape[2:]), "groups": a["groups"], "bias": a["bias"] is not None, **_META}
    if a.get("transposed"):
        settings["output_padding"] = _tuple(a["output_padding"], dims)
        return _TRANSPOSED[dims - 1](weight.shape[0], weight.shape[1] * a["groups"], **settings)
    return _CONVOLUTIONS[dims - 1](weight.shape[1] * a["groups"], weight.shape[0], **settings)


def _transposed(a: Arguments) -> nn.Module:
    return _convolution({**a, "transposed": True})


def _tuple(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return value  # padding="same"
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * length if len(values) == 1 else values


def _linear(a: Arguments) -> nn.Module:
    return nn.Linear(a["weight"].shape[1], a["weight"].shape[0], bias=a["bias"] is not None, **_META)


def _batch_norm(a: Arguments) -> nn.Module:
    known = next(a[role] for role in _ROLES if a[role] is not None)
    return _BATCH_NORMS[a["rank"]](
        known.shape[0],
        eps=a["eps"],
        momentum=a["momentum"],
        affine=a["weight"] is not None,
        track_running_stats=a["running_mean"] is not None,
        **_META,
    )


def _layer_norm(a: Arguments) -> nn.Module:
    affine = a["weight"] is not None
    return nn.LayerNorm(list(a["normalized_shape"]), a["eps"], affine, bias=a["bias"] is not None, **_META)


def _group_norm(a: Arguments) -> nn.Module:
    return nn.GroupNorm(a["num_groups"], a["weight"].shape[0], a["eps"], **_META)


def _embedding(a: Arguments) -> nn.Module:
    padding = a["padding_idx"] if a["padding_idx"] >= 0 else None
    rows, columns = a["weight"].shape
    return nn.Embedding(rows, columns, padding, scale_grad_by_freq=a["scale_grad_by_freq"], sparse=a["sparse"], **_META)


def _prelu(a: Arguments) -> nn.Module:
    return nn.PReLU(a["weight"].numel(), **_META)


# operator -> what builds its layer, and the argument that is the layer's input
_LAYERS: dict[Any, tuple[Callable[[Arguments], nn.Module], str]] = {
    aten.conv1d: (_convolution, "input"),
    aten.conv2d: (_convolution, "input"),
    aten.conv3d: (_convolution, "input"),
    aten.conv_transpose1d: (_transposed, "input"),
    aten.conv_transpose2d: (_transposed, "input"),
    aten.conv_transpose3d: (_transposed, "input"),
    aten.convolution: (_convolution, "input"),
    aten._convolution: (_convolution, "input"),
    aten.linear: (_linear, "input"),
    aten.addmm: (_linear, "mat1"),
    aten.batch_norm: (_batch_norm, "input"),
    aten._native_batch_norm_legit_no_training: (_batch_norm, "input"),
    aten.layer_norm: (_layer_norm, "input"),
    aten.native_layer_norm: (_layer_norm, "input"),
    aten.group_norm: (_group_norm, "input"),
    aten.embedding: (_embedding, "indices"),
    aten.prelu: (_prelu, "self"),
}
_DROPOUTS: dict[Any, type[nn.Module]] = {
    aten.dropout: nn.Dropout,
    aten.native_dropout: nn.Dropout,
    aten.feature_dropout: nn.Dropout2d,
    aten.alpha_dropout: nn.AlphaDropout,
}


def lift(program: ExportedProgram, parameters: Collection[str] | None = None) -> fx.GraphModule:
    """Return the network of an exported program as an ordinary module, in eval mode.

    `meta["static_batch"]` of the result is the batch size where the program was exported for one only, else None;
    views and flattenings follow the real batch size all the same.

    Args:
        program: the exported program; it shares its tensors with the result.
        parameters: names of the tensors to train, where the program itself does not know them.

    Raises:
        InputError: nested inputs, or a layer that is stuck in training mode.
    """
    source = program.module(check_guards=False)
    if not isinstance(source, fx.GraphModule):
        raise InputError("the archive does not hold a graph; export it again with torch.export.export.")
    trained = set(program.graph_signature.parameters if parameters is None else parameters)
    _make_plain(source)
    static_batch = _static_batch(source.graph)
    layers: dict[str, nn.Module] = {}
    for node in list(source.graph.nodes):
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            _lift_node(source, node, layers)
            _unfreeze_batch(node)
    _drop_counters(source, layers)
    _erase_unused(source.graph)
    _refuse_training_mode(source.graph)
    for name, buffer in list(source.named_buffers()):
        if name in trained and buffer.is_floating_point():
            owner, _, leaf = name.rpartition(".")
            module = source.get_submodule(owner)
            delattr(module, leaf)
            module.register_parameter(leaf, nn.Parameter(buffer.detach()))
    network = fx.GraphModule(source, source.graph, class_name="LiftedNetwork")
    network.meta["static_batch"] = static_batch
    return network.eval()


def _make_plain(source: fx.GraphModule) -> None:
    """Let forward take and return plain Python values, without torch.export's flattening of both."""
    graph = source.graph
    codegen = graph._codegen
    if isinstance(codegen, fx.graph._PyTreeCodeGen):
        spec = codegen.pytree_info.in_spec
        arguments = [child for group in spec.children() for child in group.children()]
        if not all(child.is_leaf() for child in arguments):
            raise InputError("the network takes nested inputs (lists or dictionaries); export it with tensors only.")
        out_spec = codegen.pytree_info.out_spec
        graph.set_codegen(fx.graph.CodeGen())
        output = graph.output_node()
        if out_spec is not None:
            output.args = (pytree.tree_unflatten(list(pytree.tree_leaves(output.args[0])), out_spec),)
    for node in graph.find_nodes(op="placeholder"):
        if not node.users and not isinstance(node.meta.get("val"), Tensor):
            graph.erase_node(node)  # an argument that torch.export has fixed


def _static_batch(graph: fx.Graph) -> int | None:
    values = [node.meta.get("val") for node in graph.find_nodes(op="placeholder")]
    sizes = [value.shape[0] for value in values if isinstance(value, Tensor) and value.ndim]
    return sizes[0] if sizes and all(isinstance(size, int) for size in sizes) else None


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of an operator call by name, with the defaults filled in."""
    assert isinstance(node.target, torch._ops.OpOverload)
    named = {}
    for position, argument in enumerate(node.target._schema.arguments):
        given = node.args[position] if position < len(node.args) else None
        default = argument.default_value if argument.has_default_value() else None
        named[argument.name] = given if position < len(node.args) else node.kwargs.get(argument.name, default)
    return named


def _lift_node(source: fx.GraphModule, node: fx.Node, layers: dict[str, nn.Module]) -> None:
    """Replace one operator call by the call of a layer, where that is possible."""
    assert isinstance(node.target, torch._ops.OpOverload)
    packet = node.target.overloadpacket
    if packet in _DROPOUTS:
        a = _arguments(node)
        rate = a.get("p")
        if isinstance(rate, float):
            name = _free_name(source, node.name)
            source.add_submodule(name, _DROPOUTS[packet](rate))
            _replace(node, name, a["input"])
    elif packet in _LAYERS:
        builder, input_name = _LAYERS[packet]
        a = _arguments(node)
        if packet is aten.addmm:
            a |= {"bias": a["self"], "weight": _untransposed(a["mat2"])}
            if a["weight"] is None or a["beta"] != 1 or a["alpha"] != 1:
                return
        roles = {role: a[role] for role in _ROLES if a.get(role) is not None}
        if not roles or not all(isinstance(value, fx.Node) and value.op == "get_attr" for value in roles.values()):
            return
        names = {role: str(value.target) for role, value in roles.items()}
        prefix = next(iter(names.values())).rpartition(".")[0]
        if not prefix or any(name != f"{prefix}.{role}" for role, name in names.items()):
            return
        tensors = {role: _tensor(source, name) for role, name in names.items()}
        others = {key: value for key, value in a.items() if key not in (*_ROLES, input_name, "self", "mat2", "mat1")}
        if any(isinstance(value, fx.Node) for value in pytree.tree_leaves(others)):
            return  # a setting that the network computes
        value = a[input_name].meta.get("val")
        settings = {**dict.fromkeys(_ROLES), **others, **tensors, "rank": getattr(value, "ndim", None)}
        layer = _layer(source, prefix, builder, settings, tensors)
        if layer is None or (prefix in layers and not _same(layers[prefix], layer)):
            return
        if prefix not in layers:
            layers[prefix] = layer
            _set_submodule(source, prefix, layer)
        _replace(node, prefix, a[input_name])


def _layer(
    source: fx.GraphModule,
    prefix: str,
    builder: Callable[[Arguments], nn.Module],
    settings: Arguments,
    tensors: dict[str, Tensor],
) -> nn.Module | None:
    """Return the layer with the graph's tensors in it; None where the place holds more than this layer."""
    place = source.get_submodule(prefix)
    held = {*dict(place.named_parameters()), *dict(place.named_buffers())}
    if not held <= {*_ROLES, "num_batches_tracked"}:
        return None
    try:
        layer = builder(settings)
    except (KeyError, ValueError, RuntimeError, IndexError, TypeError):  # shapes or settings that no layer has
        return None
    counter = getattr(place, "num_batches_tracked", None)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats:
        layer.num_batches_tracked = counter if isinstance(counter, Tensor) else torch.tensor(0)
    for role, tensor in tensors.items():
        if role in layer._parameters:
            is_parameter = isinstance(tensor, nn.Parameter)
            setattr(layer, role, tensor if is_parameter else nn.Parameter(tensor.detach()))
        elif role in layer._buffers:
            setattr(layer, role, tensor.detach())
        else:
            return None
    return None if any(tensor.is_meta for tensor in layer.state_dict().values()) else layer


def _same(first: nn.Module, second: nn.Module) -> bool:
    return type(first) is type(second) and first.extra_repr() == second.extra_repr()


def _tensor(source: fx.GraphModule, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    tensor = getattr(source.get_submodule(owner), leaf)
    assert isinstance(tensor, Tensor)
    return tensor


def _untransposed(node: Any) -> Any:
    """Return what `node` is the transpose of, None if it is no transpose."""
    if isinstance(node, fx.Node) and (
        node.target is aten.t.default or (node.target is aten.permute.default and list(node.args[1]) == [1, 0])  # type: ignore[arg-type]
    ):
        return node.args[0]
    return None


def _free_name(source: fx.GraphModule, wanted: str) -> str:
    name = wanted
    while hasattr(source, name):
        name += "_"
    return name


def _set_submodule(source: fx.GraphModule, name: str, layer: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    source.get_submodule(owner).add_module(leaf, layer)


def _replace(node: fx.Node, module: str, value: Any) -> None:
    """Put the call of a module in place of an operator call."""
    replaced = [node]
    if isinstance(node.meta.get("val"), tuple | list):  # operators of several results: the layer returns the first
        users = list(node.users)
        if any(user.target is not operator.getitem or user.args[1] != 0 for user in users if user.users):
            return
        replaced = users
    with node.graph.inserting_before(node):
        call = node.graph.call_module(module, (value,))
    call.meta = dict(replaced[0].meta)
    for old in replaced:
        old.replace_all_uses_with(call)
        node.graph.erase_node(old)
    if node not in replaced:
        node.graph.erase_node(node)


def _unfreeze_batch(node: fx.Node) -> None:
    """Let a view that keeps the first dimension follow the real batch size, and a flattening the real width."""
    if node.target not in (aten.view.default, aten.reshape.default):
        return
    source, sizes = node.args[0], node.args[1]
    before = source.meta.get("val") if isinstance(source, fx.Node) else None
    after = node.meta.get("val")
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or not isinstance(sizes, list | tuple):
        return
    if not before.ndim or not after.ndim or not isinstance(before.shape[0], int) or before.shape[0] != after.shape[0]:
        return
    if after.ndim == 2 and before.ndim > 2:
        node.target, node.args = aten.flatten.using_ints, (source, 1)
    elif all(isinstance(size, int) for size in after.shape):
        node.args = (source, [-1, *after.shape[1:]])


def _drop_counters(source: fx.GraphModule, layers: dict[str, nn.Module]) -> None:
    """Remove the graph's own counting of batches: nn.BatchNorm counts them itself."""
    counters = {f"{prefix}.num_batches_tracked" for prefix in layers}
    for node in source.graph.find_nodes(op="get_attr"):
        if node.target in counters:
            for user in list(node.users):
                if not user.users:
                    source.graph.erase_node(user)


def _erase_unused(graph: fx.Graph) -> None:
    """Remove what no longer has a user, from back to front; what writes to its input stays."""
    for node in reversed(list(graph.nodes)):
        if node.users or node.op not in ("get_attr", "call_function"):
            continue
        mutates = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        if node.op == "get_attr" or not mutates:
            graph.erase_node(node)


def _refuse_training_mode(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            a = _arguments(node)
            if a.get("training") is True or a.get("train") is True:
                raise InputError(
                    f"the network was exported in training mode, and {node.target} would stay in it; "
                    "call model.eval() before torch.export.export or torch.jit.trace."
                )
