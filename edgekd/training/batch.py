"""One batch of a part, as tensors: every process of a distributed run takes its own slice of the same global batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.data import Part
from edgekd.data.dataset import Augmentation
from edgekd.training.augment import Variants, augment


@dataclass(frozen=True)
class Batch:
    """Inputs, targets and all else that belongs to the samples at `ids` (positions in the part)."""

    ids: Tensor
    inputs: dict[str, Tensor]
    targets: Tensor | None = None
    valid: Tensor | None = None
    groups: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    mixed: tuple[Tensor | None, float] | None = None  # mixup: the partners' targets, and the share of the first
    labelled: Tensor | None = None  # which samples have a label (N,), where some of the part have none
    variant: int = 0  # the fixed augmentation that the inputs went through

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    def where(self, chosen: Tensor) -> "Batch":
        """Return the samples that a boolean mask (N,) chooses."""

        def cut(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[chosen]

        return Batch(
            self.ids[chosen],
            {name: tensor[chosen] for name, tensor in self.inputs.items()},
            cut(self.targets),
            cut(self.valid),
            cut(self.groups),
            {name: tensor[chosen] for name, tensor in self.extras.items()},
            None if self.mixed is None else (cut(self.mixed[0]), self.mixed[1]),
            cut(self.labelled),
            self.variant,
        )


@dataclass(frozen=True)
class Slice:
    """Which part of a global batch this process works on."""

    rank: int = 0
    size: int = 1

    def of(self, count: int) -> slice:
        """Return the positions of this process in a global batch of `count` samples."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)


def load_batch(
    part: Part,
    positions: NDArray[np.intp],
    mine: Slice,
    augmentations: Sequence[Augmentation],
    mixup: float,
    generator: torch.Generator,
    device: str,
    layout: torch.memory_format,
    fixed: tuple[Variants, int] | None = None,
) -> Batch:
    """Return this process's slice of the global batch at `positions` of a part.

    What is random is drawn for the global batch, so that the result does not depend on the number of processes. With
    `fixed` nothing is drawn: the samples are changed as that variant of theirs is.
    """
    share = mine.of(len(positions))
    chosen = positions[share]

    def change(images: Tensor) -> Tensor:
        if fixed is None:
            return augment(images, augmentations, generator, len(positions), share)
        return fixed[0].apply(images, augmentations, torch.from_numpy(chosen), fixed[1])

    inputs = _inputs(part, chosen, change if augmentations else None, device, layout)
    targets = _tensor(part.targets_at(chosen), device)
    mixed = None
    if mixup > 0:
        kept = float(np.random.default_rng(int(torch.randint(2**31, (), generator=generator))).beta(mixup, mixup))
        turn = torch.randperm(len(positions), generator=generator).numpy()
        partners = positions[turn][share]
        others = _inputs(part, partners, change if augmentations else None, device, layout)
        inputs = {
            name: kept * tensor + (1 - kept) * others[name] if tensor.is_floating_point() else tensor
            for name, tensor in inputs.items()
        }
        mixed = (_tensor(part.targets_at(partners), device), kept)
    return Batch(
        torch.from_numpy(chosen.astype(np.int64)).to(device),
        inputs,
        targets,
        _tensor(part.valid(chosen), device),
        _tensor(part.groups(chosen), device),
        {name: torch.from_numpy(array).to(device) for name, array in part.extras(chosen).items()},
        mixed,
        _tensor(part.labelled(chosen), device),
        0 if fixed is None else fixed[1],
    )


def _tensor(array: NDArray[np.generic] | None, device: str) -> Tensor | None:
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _inputs(
    part: Part,
    chosen: NDArray[np.intp],
    change: Callable[[Tensor], Tensor] | None,
    device: str,
    layout: torch.memory_format,
) -> dict[str, Tensor]:
    inputs = {}
    for name, array in part.inputs(chosen).items():
        tensor = torch.from_numpy(array).to(device)
        if tensor.ndim == 4:
            if change is not None and tensor.is_floating_point():
                tensor = change(tensor)
            tensor = tensor.contiguous(memory_format=layout)
        inputs[name] = tensor
    return inputs


def to_layout(inputs: Mapping[str, Tensor], layout: torch.memory_format) -> dict[str, Tensor]:
    """Return inputs with images (N, C, H, W) in a memory layout."""
    return {
        name: tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor for name, tensor in inputs.items()
    }
