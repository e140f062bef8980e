"""One process, or several that `torchrun` started, through Lightning Fabric."""

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edgekd import processes


@dataclass(frozen=True)
class Together:
    """How processes combine: a concatenation with gradients, and a sum without; one process alone needs neither."""

    size: int = 1
    gather: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor)
    total: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor)


def make_fabric(device: str, precision: str) -> Any:
    """Return Lightning Fabric for this process: alone, or one of those that `torchrun` started."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

        world, local = processes.count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of its precision
        fabric = Fabric(
            accelerator=device,
            devices=local if world > 1 else 1,
            num_nodes=world // local if world > 1 else 1,
            strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
        )
        fabric.launch()
    return fabric


def together(fabric: Any) -> Together:
    """Return how the processes of a fabric combine."""
    if fabric.world_size == 1:
        return Together()

    def gather(tensor: Tensor) -> Tensor:
        kind = tensor.dtype
        sent = tensor.to(torch.uint8) if kind == torch.bool else tensor
        gathered = fabric.all_gather(sent, sync_grads=sent.is_floating_point() and sent.requires_grad)
        return gathered.flatten(0, 1).to(kind)

    def total(tensor: Tensor) -> Tensor:
        return fabric.all_reduce(tensor.detach(), reduce_op="sum")  # type: ignore[no-any-return]

    return Together(fabric.world_size, gather, total)
