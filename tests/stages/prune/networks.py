"""Small networks to prune."""

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.context import Context
from edgekd.data import Dataset, Part
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, TensorSpec
from edgekd.recipe import parse_recipe
from edgekd.request import Request, prepare
from edgekd.stages import KINDS
from edgekd.state import ModelState


def signed(network: nn.Module, *shape: int, dtype: str = "float32", task: str = "classification") -> Signature:
    """Return the signature of a network with one input of this shape."""
    spec = TensorSpec(name="x", shape=("batch", *shape), dtype=dtype)  # type: ignore[arg-type]
    return learn_outputs(network, Signature(inputs=(spec,), task=task))  # type: ignore[arg-type]


def part(signature: Signature, inputs: Tensor, targets: Tensor | None = None) -> Part:
    """Return samples as a part."""
    data = Dataset({"x": inputs.numpy()}, targets=None if targets is None else targets.numpy())
    return Part(data, np.arange(len(inputs)), signature)


def convolutions() -> nn.Sequential:
    """Return two convolutions with norms, and a classifier of four classes."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    for norm in (network[1], network[4]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return network.eval()


class Feed(nn.Module):
    """A pre-norm perceptron of tokens (N, tokens, 8), without attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm1 = nn.Linear(4, 8), nn.LayerNorm(8)
        self.up, self.down, self.norm2 = nn.Linear(8, 16), nn.Linear(16, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.down(self.up(self.norm1(x)).relu())
        return self.head(self.norm2(x).mean(1))


class Twice(nn.Module):
    """One convolution runs twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.last, self.head = nn.Conv2d(16, 32, 1), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.again(self.first(x).relu()).relu()).relu()
        return self.head(self.last(x).relu().mean((2, 3)))


class Tied(nn.Module):
    """The head reads the embedding's weights backwards."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        return self.head(self.norm(x + self.down(self.up(x).relu())))


class Branching(nn.Module):
    """Which convolution runs depends on the input, or on a flag of the network's own."""

    def __init__(self, *, on_input: bool, by_item: bool = False) -> None:
        super().__init__()
        self.bright, self.dark = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(1, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)
        self.on_input, self.by_item = on_input, by_item
        self.register_buffer("flag", torch.tensor(True))

    def forward(self, x: Tensor) -> Tensor:
        if not self.on_input:
            chosen = bool(self.flag)
        elif self.by_item:
            chosen = x.mean().item() > 0
        else:
            chosen = bool(x.mean() > 0)
        return self.head((self.bright if chosen else self.dark)(x).relu().mean((2, 3)))


def opened(network: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[ModelState, Context]:
    """Return a network as a first state, and the context of a run on these samples."""
    data = Dataset({"x": inputs.numpy()}, targets=targets.numpy())
    recipe = parse_recipe("[data]\ncalibration = 40\nvalidation = 0.2", KINDS)
    prepared = prepare(Request(network, ("generic-x86",), data=data, recipe=recipe, threads=1))
    return prepared.opened.state, prepared.contexts[0]
