"""Activations on the calibration part: forward passes only, no labels.

Source: Muralidharan et al., Compact Language Models via Pruning and Knowledge Distillation (Minitron), 2024, section 2.2:
a hidden channel c is worth the sum over norms of mean |LN(x)_c|, a neuron i, or a feature of an attention head, the L2
norm over positions of the mean over samples of |a_i|. edgekd variant: a channel of a convolution is worth the mean of |a|
over samples and positions where the next layer reads it, so after its norm and activation.
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.evaluate import run_module
from edgekd.stages.prune.importance.importance import Score, summed

_NORMS = (nn.LayerNorm, nn.RMSNorm)


def activation(module: nn.Module, part: Part) -> Score:
    """Run the calibration part through the network and return the score of its groups.

    Raises:
        InputError: activations are NaN or infinite; the first such layer is named.
    """
    watched = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, (*_NORMS, nn.Linear, nn.modules.conv._ConvNd))
    }
    sums: dict[nn.Module, Tensor] = {}

    def watch(name: str, layer: nn.Module) -> Any:
        def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            values = output if isinstance(layer, _NORMS) else inputs[0]
            total = _magnitudes(layer, values)
            if not total.isfinite().all():
                what = "makes" if isinstance(layer, _NORMS) else "is given"
                raise InputError(
                    f"{name} {what} NaN or infinite activations on the calibration part; look at the samples and the weights "
                    "before it, or rank by magnitude"
                )
            sums[layer] = sums[layer] + total if layer in sums and sums[layer].shape == total.shape else total

        return layer.register_forward_hook(note)

    hooks = [watch(name, layer) for name, layer in watched.items()]
    try:
        run_module(module, part)
    finally:
        for hook in hooks:
            hook.remove()
    worth = {layer: total.square().sum(0).sqrt() for layer, total in sums.items()}  # one position: the sum itself
    return lambda group: _score(group, worth)


def _magnitudes(layer: nn.Module, values: Tensor) -> Tensor:
    """Return the sums over a batch of |values|: (positions, channels) of a Linear layer, else (1, channels)."""
    size = values.abs().float()
    if isinstance(layer, nn.modules.conv._ConvNd):
        axis = values.ndim - len(layer.kernel_size) - 1
        return size.movedim(axis, -1).flatten(0, -2).mean(0, keepdim=True) * len(values)
    if isinstance(layer, _NORMS):
        return size.flatten(0, -2).mean(0, keepdim=True) * len(values)
    return size.sum(0).reshape(-1, values.shape[-1])


def _score(group: Any, worth: dict[nn.Module, Tensor]) -> Tensor | None:
    """Score a group by its norms where it has some (hidden width), else by what the layers behind it are given."""
    import torch_pruning as tp

    inwards = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
    norms = any(isinstance(dep.target.module, _NORMS) for dep, _ in group)

    def values(dep: Any) -> Tensor | None:
        layer = dep.target.module
        counts = isinstance(layer, _NORMS) if norms else dep.handler in inwards
        return worth.get(layer) if counts else None

    with torch.no_grad():
        return summed(group, values)
