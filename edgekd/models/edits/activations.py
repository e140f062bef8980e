"""Activations that other ones stand in for."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from edgekd.models.signature import Signature

KIND = "replace-activation"
# What may stand in. Every one works on each value alone.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "LeakyReLU": nn.LeakyReLU, "Hardswish": nn.Hardswish, "Hardsigmoid": nn.Hardsigmoid,
    "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "SiLU": nn.SiLU, "GELU": nn.GELU, "Hardtanh": nn.Hardtanh,
}  # fmt: skip


def activation_edit(replaced: Mapping[str, str]) -> dict[str, Any]:
    """Return the edit that puts activations in place of layers: path to a name of `ACTIVATIONS`."""
    return {"kind": KIND, "modules": dict(replaced)}


def replace_activations(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Replace the activations of an edit, in place, and return the network."""
    for name, activation in edit["modules"].items():
        module.set_submodule(name, ACTIVATIONS[activation]())
    return module
