"""Fake quantization: a float graph in which weights and activations are rounded as the target will round them."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import fx, nn

from edgekd.models.exported_graph import (
    absorb_norms,
    export_graph,
    fold_constants,
    is_constant,
    scale_weights,
    set_training,
    value_of,
)
from edgekd.models.precision import ALONE, Precision
from edgekd.models.signature import Signature
from edgekd.models.weight_rounding import Activations, Scales, Weights
from edgekd.target import QuantizationScheme


class Simulation(BaseModel):
    """What a fake-quantized graph simulates, so that the same one can be made again.

    `weights` and `activations` are what is rounded to; `block` weights of an output channel share a scale, 0: all of them.
    `keep_float` names modules and ONNX operators; `calibrators` are those among which the ranges were chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: QuantizationScheme
    weights: Weights = "int8"
    activations: Activations = "int8"
    block: int = 0
    scales: Scales = "absmax"
    keep_float: tuple[str, ...] = ()
    least_channels: int = 1
    calibrators: tuple[str, ...] = ("min-max",)
    percentile: float = 99.99

    @property
    def precision(self) -> Precision:
        """Return what is rounded to, in a word: of integers that are multiplied the wider one, else the weights alone."""
        return "int8" if self.activations == "int8" else ALONE[self.weights]

    @property
    def plain(self) -> bool:
        """Return whether weights are rounded as static quantization does: 8 bits with the scheme's own ranges."""
        return self.weights == "int8" and self.activations == "int8" and self.scales == "absmax"


def prepare_graph(module: nn.Module, signature: Signature, simulation: Simulation) -> fx.GraphModule:
    """Return a network as a graph with a rounder in front of everything that runs in integers.

    A rounder is x -> s (clip(round(x / s) + z, lowest, highest) - z), straight-through in training. Scales s and zero points z
    are still to be set, or loaded; then they hold, as batch statistics do, until `set_adapting`. Weights are rounded with the
    scale of the batch norm behind their layer, and have the network's names and their gradients.

    Raises:
        InputError: a weight is used in float, too.
        StageError: torch cannot trace the network with a free batch size.
    """
    from edgekd.models.annotation import SchemeQuantizer
    from edgekd.models.pt2e import prepare_qat_pt2e

    graph = export_graph(module, signature)
    scale_weights(graph)
    quantizer = SchemeQuantizer(simulation)
    prepared: fx.GraphModule = prepare_qat_pt2e(graph, quantizer)
    set_training(prepared, False)
    for node in prepared.graph.find_nodes(op="call_module"):  # what is rounded has the shape of what it was
        node.meta |= {key: value for key, value in node.args[0].meta.items() if key == "val"}
    return prepared


def rounders(graph: fx.GraphModule) -> dict[str, Any]:
    """Return the rounders of a prepared graph, by name; one that several places share has one name."""
    return {name: module for name, module in graph.named_modules() if hasattr(module, "fake_quant_enabled")}


def rounded_weights(graph: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Return the weights that a prepared graph rounds, with the scale of their batch norms, by the names of their rounders."""
    nodes = graph.graph.find_nodes(op="call_module")
    return {node.target: value_of(graph, node.args[0]) for node in nodes if is_constant(node.args[0])}


@torch.no_grad()
def set_weight_ranges(graph: fx.GraphModule) -> None:
    """Set the ranges of all weights from what they are now: to their extremes, or as their rounders say."""
    known = rounders(graph)
    for name, weight in rounded_weights(graph).items():
        rounder = known[name]
        if hasattr(rounder, "observe"):
            rounder.observe(weight)
            continue
        rows = weight.transpose(0, rounder.ch_axis).flatten(1) if rounder.is_per_channel else weight.flatten()
        set_range(rounder, *torch.aminmax(rows, dim=-1))


def zero_ratios(graph: nn.Module) -> dict[str, float]:
    """Return the share of weights that are zero now, of every layer with ternary weights, by the name of the weight."""
    assert isinstance(graph, fx.GraphModule)
    known = rounders(graph)
    found = {}
    for node in graph.graph.find_nodes(op="call_module"):
        rounder = known.get(str(node.target))
        if getattr(rounder, "weights", None) == "ternary":
            found[weight_of(node)] = rounder.zero_ratio(value_of(graph, node.args[0]))  # type: ignore[union-attr]
    return found


def weight_of(node: fx.Node) -> str:
    """Return the name of the weight that a node is computed from, the scale of its batch norm aside."""
    while node.op != "get_attr":
        node = node.all_input_nodes[0]
    return str(node.target)


def set_range(rounder: Any, low: torch.Tensor, high: torch.Tensor) -> None:
    """Set a rounder's scale and zero point so that it covers a range: scalars, or (channels,) for weights."""
    observer = rounder.activation_post_process
    for name, value in (("min_val", low), ("max_val", high)):
        getattr(observer, name).resize_(value.shape).copy_(value)
    scale, zero_point = rounder.calculate_qparams()
    rounder.scale.resize_(scale.shape).copy_(scale)
    rounder.zero_point.resize_(zero_point.shape).copy_(zero_point)


def integer_graph(prepared: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a prepared graph with integer weights and explicit quantization, ready for export."""
    from edgekd.models.explicit_weights import make_weights_explicit
    from edgekd.models.pt2e import convert_pt2e

    graph = copy.deepcopy(prepared)
    set_training(graph, False)
    _keep_scales(graph)
    absorb_norms(graph)
    fold_constants(graph)
    make_weights_explicit(graph)
    converted: fx.GraphModule = convert_pt2e(graph)
    return converted


def _keep_scales(graph: fx.GraphModule) -> None:
    """Let the conversion take the scales that the training saw: torch's kernel sets others than the observers compute.

    For a channel of zeros alone the kernel sets a zero point, too, that a symmetric scheme has not.
    """
    for rounder in rounders(graph).values():
        if hasattr(rounder, "activation_post_process"):
            symmetric = rounder.qscheme in (torch.per_tensor_symmetric, torch.per_channel_symmetric)
            _, zero_point = rounder.calculate_qparams() if symmetric else (None, rounder.zero_point)
            rounder.calculate_qparams = partial(_qparams, rounder.scale, zero_point)


def _qparams(*found: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return found


def copy_weights(prepared: fx.GraphModule, module: nn.Module) -> None:
    """Copy a prepared graph's weights and statistics into the network it was made from, by name and in place.

    What no operation of the graph reads (the counters of batch norms, layers that only training has) stays as it is.
    """
    weights = prepared.state_dict()
    module.load_state_dict({name: weights.get(name, own) for name, own in module.state_dict().items()})


def unknown_names(module: nn.Module, names: Sequence[str]) -> list[str]:
    """Return the names that are neither a module's, an ONNX operator's that can be rounded, nor of a module and its operator."""
    from edgekd.models.annotation import OPERATORS

    modules = {name for name, _ in module.named_modules()}
    operators = {one for names in OPERATORS.values() for one in names}
    known = {*modules, *operators, *(f"{one}/{operator}" for one in modules for operator in operators)}
    return [name for name in names if name not in known]
