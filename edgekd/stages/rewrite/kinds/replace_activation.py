"""Activations that the target lacks become ones that it runs."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.edits.activations import ACTIVATIONS, activation_edit
from edgekd.stages.rewrite.rewrite import Change, TorchRewrite
from edgekd.state import ModelState

# The ONNX operators that torch writes for an activation, at opset 20.
OPERATORS: dict[str, frozenset[str]] = {
    "ReLU": frozenset({"Relu"}), "ReLU6": frozenset({"Clip"}), "Hardtanh": frozenset({"Clip"}),
    "LeakyReLU": frozenset({"LeakyRelu"}), "PReLU": frozenset({"PRelu"}), "ELU": frozenset({"Elu"}),
    "CELU": frozenset({"Celu"}), "SELU": frozenset({"Selu"}), "GELU": frozenset({"Gelu"}),
    "SiLU": frozenset({"Sigmoid", "Mul"}), "Mish": frozenset({"Mish"}),
    "Softplus": frozenset({"Softplus", "Greater", "Where"}), "Hardswish": frozenset({"HardSwish"}),
    "Hardsigmoid": frozenset({"HardSigmoid"}), "Sigmoid": frozenset({"Sigmoid"}), "Tanh": frozenset({"Tanh"}),
}  # fmt: skip


def nearest_activation(activation: nn.Module, candidates: tuple[str, ...]) -> str:
    """Return the candidate with the least mean squared difference from an activation where x is standard normal."""
    x = torch.linspace(-6, 6, 2401, dtype=torch.float64)
    density = torch.exp(-(x**2) / 2)
    with torch.no_grad():
        wanted = activation.double()(x)
        error = {name: float((density * (ACTIVATIONS[name]()(x) - wanted) ** 2).sum()) for name in candidates}
    return min(error, key=error.__getitem__)


class ReplaceActivation(TorchRewrite):
    """Activations become others: those of a mapping, or all that the target's list of operators lacks become the nearest it has.

    Activations are layers; what `forward` calls as a function is not found.
    """

    title: ClassVar[str] = "Activation replacement"
    source: ClassVar[str] = "Howard et al., Searching for MobileNetV3, arXiv 1905.02244, section 5.2, for Hardswish"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = "without a mapping, the nearest in mean square under a standard normal input"
    applies: ClassVar[str] = "activation layers; changes the function: distill afterwards"
    exact: ClassVar[bool] = False
    for_speed: ClassVar[bool] = False

    kind: Literal["replace-activation"] = "replace-activation"
    mapping: dict[str, str] = Field(
        default={},
        description='classes of torch.nn by name, e.g. { SiLU = "Hardswish" }; empty: by the target\'s operators',
    )
    tolerance: float | None = Field(default=None, gt=0, description="largest difference of the outputs; not set: none")

    @model_validator(mode="after")
    def _known(self) -> Self:
        for old, new in self.mapping.items():
            if old not in OPERATORS:
                raise ValueError(f"mapping: {old} is none of the activations {', '.join(OPERATORS)}")
            if new not in ACTIVATIONS:
                raise ValueError(f"mapping: {new} cannot stand in for {old}; one of {', '.join(ACTIVATIONS)} can")
            if old == new:
                raise ValueError(f"mapping: {old} stands for itself")
        return self

    def check(self, state: ModelState, context: Context) -> None:
        """Refuse a target that lists no operators where there is no mapping."""
        self._wanted(context)

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Replace the layers; the rest of the network stays as it is."""
        layers = {
            name: layer for name, layer in state.torch.module.named_modules() if name and _name(layer) in OPERATORS
        }
        if not layers:
            return Change("the network has no activation layers; those that forward calls as functions are not found")
        wanted = self._wanted(context)
        usable = tuple(name for name in ACTIVATIONS if name not in wanted)
        if not usable and not self.mapping:
            raise InputError(
                f"replace-activation: {context.target.title} lists no activation that can stand in for "
                f"{', '.join(sorted({_name(layer) for layer in layers.values()}))}; give a mapping"
            )
        replaced = {
            name: self.mapping.get(_name(layer)) or nearest_activation(type(layer)(), usable)
            for name, layer in layers.items()
            if _name(layer) in wanted
        }
        if not replaced:
            kinds = ", ".join(sorted({_name(layer) for layer in layers.values()}))
            return Change(
                f"{context.target.title} runs {kinds} already" if not self.mapping else f"the network has {kinds} only"
            )
        pairs = sorted({f"{_name(layers[name])} by {new}" for name, new in replaced.items()})
        form = self.edited(state.torch, activation_edit(replaced), state.signature)
        return Change(f"{len(replaced)} layers: {', '.join(pairs)}; distill to recover", form)

    def _wanted(self, context: Context) -> frozenset[str]:
        """Return the names of the activations that go.

        Raises:
            InputError: neither a mapping nor the target tells.
        """
        if self.mapping:
            return frozenset(self.mapping)
        operators = context.target.limits.operators
        if operators is None:
            raise InputError(
                f"replace-activation: {context.target.name} lists no operators that it is limited to; give a mapping, "
                'for example mapping = { SiLU = "Hardswish" }'
            )
        return frozenset(name for name, needed in OPERATORS.items() if not needed <= set(operators))


def _name(layer: nn.Module) -> str:
    return type(layer).__name__ if type(layer).__module__ == "torch.nn.modules.activation" else ""
