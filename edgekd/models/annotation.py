"""Where the values of an exported graph are rounded, and to what: a target's scheme as torchao's quantizer interface."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from edgekd.errors import InputError
from edgekd.models.exported_graph import CONVOLUTIONS, LAYERS, is_constant, value_of
from edgekd.models.fake_quantization import Simulation
from edgekd.models.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)
from edgekd.models.weight_rounder import WeightRounder
from edgekd.models.weight_rounding import HIGHEST
from edgekd.target import QuantizationScheme

aten = torch.ops.aten

_TAKERS = (aten.add.Tensor, aten.add_.Tensor, aten.cat.default)
_POOLS = (aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default, aten.mean.dim)
_MOVERS = (  # their output holds values of their input only, so both have the same levels
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.transpose.int,
    aten.squeeze.dim,
    aten.unsqueeze.default,
)
OPERATORS: dict[Any, tuple[str, ...]] = {  # what ONNX calls them
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default), ("Conv",)),
    **dict.fromkeys((aten.conv_transpose1d.default, aten.conv_transpose2d.input), ("ConvTranspose",)),
    aten.linear.default: ("Gemm", "MatMul"),
    **dict.fromkeys((aten.add.Tensor, aten.add_.Tensor), ("Add",)),
    aten.cat.default: ("Concat",),
    aten.avg_pool2d.default: ("AveragePool",),
    **dict.fromkeys((aten.adaptive_avg_pool2d.default, aten.mean.dim), ("GlobalAveragePool",)),
}
_KEY = "quantization_annotation"  # torchao looks for it in a node's meta


class SchemeQuantizer(Quantizer):  # type: ignore[misc]  # torchao has no types
    """Rounds the inputs and weights of convolutions and linear layers, and the inputs of additions, concatenations and pools.

    What only moves values (maximum pooling, flatten, reshape, ...) in front of them is rounded on both sides with one scale, so that
    a runtime moves the integers. Everything else, and the outputs of the network, stay in float.
    """

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation, self._keep_float = simulation, set(simulation.keep_float)
        self._operators = set(simulation.scheme.operators if simulation.activations == "int8" else ())
        self._activation = _activation(simulation.scheme)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Say for every node of a graph which of its inputs are rounded, and how."""
        for node in list(model.graph.nodes):
            if not self._is_integer(node):
                continue
            if node.target in LAYERS:
                if self._is_rounded(model, node):
                    self._layer(model, node)
            elif self._simulation.activations == "float":
                continue
            elif node.target in _TAKERS:
                inputs = node.args[0] if node.target == aten.cat.default else node.args[:2]
                if all(_varies(one) for one in inputs):
                    self._round(node, inputs)
            elif node.target != aten.mean.dim or _is_spatial(node):
                self._round(node, node.args[:1])
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Accept any graph."""

    def _is_integer(self, node: fx.Node) -> bool:
        """Return whether the scheme has integers for an operator, and nobody wants it in float."""
        names, modules = set(OPERATORS.get(node.target, ())), modules_of(node)
        wanted = names & self._operators if self._operators else names
        in_file = {f"{(modules or [''])[-1]}/{name}" for name in names}
        return bool(wanted) and not self._keep_float & {*names, *modules, *in_file}

    def _is_rounded(self, model: fx.GraphModule, node: fx.Node) -> bool:
        """Return whether a layer's weights are constants, and not too few or, where they are ternary, of a convolution."""
        x, weight = node.args[:2]
        if not isinstance(x, fx.Node) or not isinstance(weight, fx.Node) or not is_constant(weight):
            return False
        if node.target not in CONVOLUTIONS:
            return True
        channels = value_of(model, weight).shape[1]
        groups = node.args[6] if len(node.args) > 6 else 1
        narrow = CONVOLUTIONS[node.target] == 0 and groups == 1 and channels < self._simulation.least_channels
        return not narrow and self._simulation.weights != "ternary"

    def _layer(self, model: fx.GraphModule, node: fx.Node) -> None:
        x, weight = node.args[:2]
        assert isinstance(x, fx.Node) and isinstance(weight, fx.Node)
        self._check_shared(model, weight)
        shape = tuple(value_of(model, weight).shape)
        inputs = (x,) if self._simulation.activations == "int8" else ()
        self._round(node, inputs, {weight: _weight(self._simulation, shape, LAYERS[node.target])})

    def _check_shared(self, model: fx.GraphModule, weight: fx.Node) -> None:
        """Refuse a weight that something else uses in float."""
        while weight.op != "get_attr":  # behind it the scale of a batch norm
            weight = weight.all_input_nodes[0]
        users = [user for user in weight.users if user.op == "call_function" and not is_constant(user)]
        floating = [
            user
            for user in users
            if not (user.target in LAYERS and self._is_integer(user) and self._is_rounded(model, user))
        ]
        if floating:
            where = ", ".join(dict.fromkeys((modules_of(user) or [user.name])[-1] for user in floating))
            layers = ", ".join(dict.fromkeys(f'"{modules_of(user)[-1]}"' for user in users if user not in floating))
            raise InputError(
                f"{weight.target} is one weight of several layers, and {where} uses it in float; "
                f"set keep_float = [{layers}], so that all do"
            )

    def _round(self, node: fx.Node, inputs: Sequence[fx.Node], more: dict[fx.Node, Any] | None = None) -> None:
        for one in inputs:
            self._round_both_sides(one)
        specs = dict.fromkeys(inputs, self._activation) | (more or {})
        node.meta[_KEY] = QuantizationAnnotation(input_qspec_map=specs, _annotated=True)

    def _round_both_sides(self, node: fx.Node) -> None:
        """Round what a node takes and gives with one scale, if it only moves values, and so on backwards."""
        if node.target not in _MOVERS or _KEY in node.meta:
            return
        source = node.args[0]
        assert isinstance(source, fx.Node)
        self._round_both_sides(source)
        shared = SharedQuantizationSpec((source, node))
        specs = {source: self._activation}
        node.meta[_KEY] = QuantizationAnnotation(input_qspec_map=specs, output_qspec=shared, _annotated=True)


def modules_of(node: fx.Node) -> list[str]:
    """Return the names of the modules that a node was traced in, the innermost last."""
    return [path for path, _ in node.meta.get("nn_module_stack", {}).values() if path]


def _varies(node: Any) -> bool:
    """Return whether an argument is a float tensor that depends on the network's input."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(value, torch.Tensor) and value.is_floating_point() and not is_constant(node)


def _is_spatial(mean: fx.Node) -> bool:
    """Return whether a mean is a global pooling, over both axes of an image."""
    source, axes = mean.args[:2]
    assert isinstance(source, fx.Node)
    value = source.meta.get("val")
    return isinstance(value, torch.Tensor) and value.ndim == 4 and sorted(int(axis) % 4 for axis in axes) == [2, 3]  # type: ignore


def _activation(scheme: QuantizationScheme) -> QuantizationSpec:
    kind = getattr(torch, scheme.activation_dtype)
    limits = torch.iinfo(kind)
    return QuantizationSpec(
        dtype=kind,
        quant_min=limits.min,
        quant_max=limits.max,
        qscheme=torch.per_tensor_symmetric if scheme.activation_symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver),
    )


def _weight(simulation: Simulation, shape: tuple[int, ...], axis: int) -> QuantizationSpec:
    scheme = simulation.scheme
    if not simulation.plain:
        highest = HIGHEST[simulation.weights]
        return QuantizationSpec(
            dtype=torch.int8,
            quant_min=-highest,
            quant_max=highest,
            observer_or_fake_quant_ctr=WeightRounder.with_args(
                weights=simulation.weights, shape=shape, axis=axis, block=simulation.block, scales=simulation.scales
            ),
        )
    symmetric = scheme.weight_symmetric
    observer: Any = MovingAverageMinMaxObserver
    kind = torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine
    if scheme.per_channel:
        observer = MovingAveragePerChannelMinMaxObserver
        kind = torch.per_channel_symmetric if symmetric else torch.per_channel_affine
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-scheme.weight_limit if symmetric else -128,
        quant_max=scheme.weight_limit,
        qscheme=kind,
        ch_axis=axis if scheme.per_channel else None,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
            observer=observer.with_args(averaging_constant=1.0)  # the extremes of now: weights are not sampled
        ),
    )
