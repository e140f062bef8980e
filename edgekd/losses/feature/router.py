"""A policy: a router mixes the teacher's layers into one target, input by input."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import LayerPolicy
from edgekd.losses.feature.positions import LAYOUT, Layout, as_tokens, counted_positions, mean_where
from edgekd.losses.feature.projector import make_projector
from edgekd.losses.schedule import Schedule, Share, Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def entropy_floor(routes: Tensor, floor: float) -> Tensor:
    """Return max(0, floor log L - H(r)) for every sample, (N,), of routes r (N, L) that sum to 1.

    It keeps the router from settling on one layer early; an edgekd variant.
    """
    entropy = -(routes * routes.clamp(min=torch.finfo(routes.dtype).tiny).log()).sum(-1)
    return (floor * math.log(routes.shape[-1]) - entropy).clamp(min=0)


class Mixer(nn.Module):
    """The router g, the maps A_l to one width, and the light head that trains them."""

    def __init__(self, layers: list[Tensor], classes: int, hidden: int, layout: Layout) -> None:
        super().__init__()
        widths = [as_tokens(layer, layout).shape[-1] for layer in layers]
        score = nn.Linear(hidden, len(layers))
        nn.init.zeros_(score.weight)  # all layers equally, at first
        nn.init.zeros_(score.bias)
        self.gate = nn.Sequential(nn.Linear(sum(widths), hidden), nn.GELU(), score)
        self.maps = nn.ModuleDict()
        for number, layer in enumerate(layers):
            made = make_projector(
                "router", f"layer {number + 1} to the last", _at_size_of(layers[-1], layer), layers[-1], "auto"
            )
            if made is not None:
                self.maps[str(number)] = made
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, layers: list[Tensor], pooled: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Return h* = sum_l r_l A_l h_l in the last layer's shape, and r = softmax(g(pooled) / temperature), (N, L)."""
        routes = (self.gate(pooled) / temperature).softmax(-1)
        mixed = torch.zeros_like(layers[-1])
        for number, layer in enumerate(layers):
            fitted = _at_size_of(layers[-1], layer)
            fitted = self.maps[str(number)](fitted) if str(number) in self.maps else fitted
            mixed = mixed + routes[:, number].reshape((-1,) + (1,) * (fitted.ndim - 1)) * fitted
        return mixed, routes


class Router(LayerPolicy):
    """h* = sum_l r_l A_l h_T^l with r = softmax(g([pool(h_T^1), ...]) / tau), as the student's target.

    The router and the maps are trained by the task's loss of a light head on h*, never by the student's distance to h*:
    else it would choose the layer that is easiest to mimic.
    """

    title: ClassVar[str] = "Router over teacher layers"
    source: ClassVar[str] = "DLink, arXiv 2604.15016, layer router"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = "two-layer router, entropy floor, and training by the head's cross entropy"
    applies: ClassVar[str] = "teachers whose best layer depends on the input, e.g. EEG encoders; labels of classes"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "labels"})

    kind: Literal["router"] = "router"
    student: str = Field(description="student's tap")
    blocks: tuple[str, ...] = Field(min_length=2, description="teacher's taps; the target has the last one's shape")
    temperature: Temperature = Field(default=constant(1.0), description="tau of the router's softmax")
    hidden: int = Field(default=64, ge=1, description="width of the router's hidden layer")
    floor: Share = Field(
        default=Schedule(start=0.5, end=0.0), description="least entropy of the routes, as a share of log L"
    )
    floor_weight: float = Field(default=1.0, ge=0, description="coefficient of what lacks to the floor")
    layout: Layout = Field(default="tokens", description=LAYOUT)

    @classmethod
    def example(cls) -> "Router":
        """Return a router over two blocks."""
        return cls(student="penultimate", blocks=("blocks.1", "blocks.2"))

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's tap."""
        return (self.student,)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return every block."""
        return self.blocks

    def prepare(self, setup: Setup) -> nn.Module:
        """Return the router, the maps and the head.

        Raises:
            InputError: there are no classes, or a block's feature is not of the last one's kind.
        """
        if setup.classes is None:
            raise InputError(f"{self.kind}: it is trained by class labels; use multi-layer where there are none")
        teacher = next(iter(setup.teachers.values())).features
        layers = [teacher[block] for block in self.blocks]
        last = layers[-1]
        for block, layer in zip(self.blocks, layers, strict=True):
            fits = layer.ndim == last.ndim and (
                layer.ndim == 4 or as_tokens(layer, self.layout).shape[1] == as_tokens(last, self.layout).shape[1]
            )
            if not fits:
                raise InputError(
                    f"{self.kind}: {block} has the shape {tuple(layer.shape[1:])}, {self.blocks[-1]} {tuple(last.shape[1:])}; "
                    "choose blocks that all give vectors, maps, or sequences of one length"
                )
        return Mixer(layers, setup.classes, self.hidden, self.layout).to(last.device, at_least_float32(last).dtype)

    def pairs(self, step: Step, memory: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
        """Return the pair with h*, detached."""
        with torch.no_grad():
            mixed, _ = self._mix(step, memory)
        return [(f"{self.student}~mixed", step.student.features[self.student], mixed)]

    def own_loss(self, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the head's cross entropy on h* plus what the routes' entropy lacks to the floor.

        Raises:
            InputError: the labels are not one class a sample.
        """
        targets = step.targets
        if targets is None or targets.ndim != 1 or targets.is_floating_point():
            raise InputError(f"{self.kind}: it is trained by one class a sample; use multi-layer for other labels")
        mixed, routes = self._mix(step, memory)
        assert isinstance(memory, Mixer)
        task = functional.cross_entropy(
            memory.head(self._pool(step, mixed)), targets, ignore_index=-1, reduction="none"
        )
        value = task + self.floor_weight * entropy_floor(routes, self.floor.at(step.progress))
        counted = targets >= 0
        if step.valid is not None and step.valid.shape == counted.shape:
            counted = counted & step.valid
        return (value * counted).sum() / counted.sum().clamp(min=1)

    def _mix(self, step: Step, memory: nn.Module | None) -> tuple[Tensor, Tensor]:
        assert isinstance(memory, Mixer)
        layers = [at_least_float32(step.the_teacher.features[block]).detach() for block in self.blocks]
        pooled = torch.cat([self._pool(step, layer) for layer in layers], -1)
        return memory(layers, pooled, self.temperature.at(step.progress))

    def _pool(self, step: Step, feature: Tensor) -> Tensor:
        return mean_where(as_tokens(feature, self.layout), counted_positions(step, feature, self.layout))


def _at_size_of(last: Tensor, layer: Tensor) -> Tensor:
    if layer.ndim != 4 or last.ndim != 4 or layer.shape[2:] == last.shape[2:]:
        return layer
    return functional.adaptive_avg_pool2d(layer, (last.shape[2], last.shape[3]))
