"""Networks as `torch.export` graphs: tracing them, training and eval mode, and folding what needs no node of its own."""

import copy
import warnings
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn

from edgekd.models.export_failure import export_error
from edgekd.models.network import example_inputs
from edgekd.models.signature import BATCH, Signature

# torch warns of itself where a graph is copied
warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)

aten = torch.ops.aten

CONVOLUTIONS: dict[Any, int] = {  # with the axis of their weights that counts the outputs
    aten.conv1d.default: 0,
    aten.conv2d.default: 0,
    aten.conv2d.padding: 0,
    aten.conv3d.default: 0,
    aten.conv_transpose1d.default: 1,
    aten.conv_transpose2d.input: 1,
}
LAYERS: dict[Any, int] = CONVOLUTIONS | {aten.linear.default: 0}

_EXPORTED, _ADAPTING, _SCALED = "edgekd_exported", "edgekd_adapting", "edgekd_scaled"
_TRAINING = 5  # the argument of a batch norm that says whether it uses, and learns, the statistics of the batch
_DROPOUTS = (
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
)


def export_graph(module: nn.Module, signature: Signature) -> fx.GraphModule:
    """Return a network as a graph with weights of its own, under the network's names, and with a free batch axis.

    It is traced in eval mode and stays in it; see `set_training`.

    Raises:
        InputError: the network decides by the values of its data.
        StageError: torch cannot trace the network, or its code fixes the batch size.
    """
    module = copy.deepcopy(module)
    set_training(module, False)
    free = tuple({0: torch.export.Dim(BATCH, min=1, max=65_536)} for _ in signature.inputs)
    try:
        program = torch.export.export(module, tuple(example_inputs(signature).values()), dynamic_shapes=free)
    except Exception as error:  # whatever the user's forward raises
        raise export_error("torch cannot trace this network with a free batch size", error) from error
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    graph.meta[_EXPORTED] = True
    set_training(graph, False)
    return graph


def is_exported(module: nn.Module) -> bool:
    """Return whether a network comes from `export_graph`; copies, prepared and converted graphs do too."""
    return isinstance(module, fx.GraphModule) and module.meta.get(_EXPORTED, False)


def set_training(module: nn.Module, mode: bool) -> nn.Module:
    """Put a network into training mode or eval mode, in place, and return it.

    Exported graphs refuse train() and eval(). In theirs dropout is switched; batch norms and what observes ranges only where
    the graph is adapting, else they stay in eval mode. torchao's own switch is not used: it would set every dropout to a
    probability of 0.5 and every batch norm to the default epsilon.
    """
    if not is_exported(module):
        return module.train(mode)
    assert isinstance(module, fx.GraphModule)
    adapts = mode and module.meta.get(_ADAPTING, False)
    for layer in module.modules():
        layer.training = mode
        observe = getattr(layer, "enable_observer", None)
        if callable(observe):
            observe(adapts)
    for node in module.graph.nodes:
        if node.target in _DROPOUTS:
            node.args = (*node.args[:2], mode)
        elif node.target == aten.batch_norm.default:
            node.args = (*node.args[:_TRAINING], adapts, *node.args[_TRAINING + 1 :])
    module.recompile()
    return module


def is_adapting(graph: nn.Module) -> bool:
    """Return whether a graph's batch statistics and ranges follow the training."""
    return isinstance(graph, fx.GraphModule) and bool(graph.meta.get(_ADAPTING, False))


def set_adapting(graph: nn.Module, adapting: bool) -> None:
    """Let batch statistics, and ranges that are rounded to, follow the training from now on, or hold them."""
    assert isinstance(graph, fx.GraphModule)
    graph.meta[_ADAPTING] = adapting
    set_training(graph, graph.training)


def is_constant(node: fx.Node) -> bool:
    """Return whether a node is a weight, or computed from weights alone."""
    if node.op == "call_function":
        return bool(node.all_input_nodes) and all(is_constant(one) for one in node.all_input_nodes)
    return node.op == "get_attr"


def value_of(graph: fx.GraphModule, node: Any) -> Any:
    """Return the value of a constant node of a graph; anything that is no node is its own value."""
    if not isinstance(node, fx.Node):
        return node
    if node.op == "get_attr":
        return attrgetter(str(node.target))(graph)
    assert callable(node.target)
    arguments = fx.node.map_arg(node.args, lambda one: value_of(graph, one))
    return node.target(*arguments, **fx.node.map_arg(node.kwargs, lambda one: value_of(graph, one)))


def scale_weights(graph: fx.GraphModule) -> None:
    """Bring the scale of every batch norm that follows a convolution or linear layer into that layer's weights, in place.

    With s = gamma / sqrt(var + eps), y = norm(W x + b) becomes y = norm((s W) x / s + b), the same function: what is rounded, s W,
    is what the layer has when the norm is absorbed at last. W, b, gamma and beta stay parameters under their names.
    Source: Jacob et al., Quantization and Training of Neural Networks, 2018, section 3.2, with running statistics in s.
    """
    for norm in graph.graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        layer, gamma, _, mean, variance, *_ = norm.args
        if layer.target not in LAYERS or len(layer.users) > 1:
            continue
        if layer.target not in CONVOLUTIONS and layer.meta["val"].ndim != 2:
            continue  # the outputs of the linear layer do not lie on the norm's axis
        weight, bias = layer.args[1], layer.args[2] if len(layer.args) > 2 else None
        axis, shape = LAYERS[layer.target], list(value_of(graph, weight).shape)
        if axis and shape[axis] != value_of(graph, mean).shape[0]:
            continue  # a transposed convolution in groups: its weights do not count all outputs on one axis
        call = graph.graph.call_function
        channels = [1, -1] + [1] * (len(shape) - 2)
        with graph.graph.inserting_before(layer):
            scale = call(aten.rsqrt.default, (call(aten.add.Tensor, (variance, norm.args[7])),))
            if gamma is not None:
                scale = call(aten.mul.Tensor, (gamma, scale))
            sized = call(aten.reshape.default, (scale, [-1 if one == axis else 1 for one in range(len(shape))]))
            scaled = call(aten.mul.Tensor, (weight, sized))
            divisor = call(aten.where.ScalarOther, (call(aten.ne.Scalar, (scale, 0)), scale, 1.0))
            divisor = call(aten.reshape.default, (divisor, channels))
        with graph.graph.inserting_before(norm):
            undone = call(aten.div.Tensor, (layer, divisor))
            if bias is not None:
                undone = call(aten.add.Tensor, (undone, call(aten.reshape.default, (bias, channels))))
            undone.meta["val"] = layer.meta["val"]
        layer.args = (layer.args[0], scaled, None, *layer.args[3:])
        norm.args = (undone, *norm.args[1:])
        norm.meta[_SCALED] = layer.name, scale.name, bias and bias.name
    graph.recompile()


def absorb_norms(graph: fx.GraphModule) -> None:
    """Replace the batch norms whose scale is in the weights of their layer by its bias, beta + s (b - mean), in place."""
    call, named = graph.graph.call_function, {node.name: node for node in graph.graph.nodes}
    for norm in graph.graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        if _SCALED not in norm.meta:
            continue
        layer, scale, bias = (named.get(name) for name in norm.meta[_SCALED])
        _, _, beta, mean, *_ = norm.args
        assert layer is not None
        with graph.graph.inserting_before(layer):
            centred = call(aten.neg.default, (mean,)) if bias is None else call(aten.sub.Tensor, (bias, mean))
            moved = call(aten.mul.Tensor, (centred, scale))
            moved = moved if beta is None else call(aten.add.Tensor, (moved, beta))
        layer.args = (*layer.args[:2], moved, *layer.args[3:])
        norm.replace_all_uses_with(layer)
    graph.graph.eliminate_dead_code()
    graph.recompile()


@torch.no_grad()
def fold_constants(graph: fx.GraphModule) -> None:
    """Replace everything that is computed from weights alone by its value, in place."""
    constants = [node for node in graph.graph.nodes if node.op == "call_function" and is_constant(node)]
    for number, node in enumerate(constants):
        if all(is_constant(user) for user in node.users):
            continue
        name = f"folded_{number}"
        graph.register_buffer(name, value_of(graph, node).detach().clone())
        with graph.graph.inserting_before(node):
            folded = graph.graph.get_attr(name)
        folded.meta = dict(node.meta)
        node.replace_all_uses_with(folded)
    graph.graph.eliminate_dead_code()
    graph.recompile()
