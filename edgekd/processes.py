"""One process, or several that `torchrun` started for one run: the first leads, the others train with it."""

import os
from typing import Any, TypeVar

Value = TypeVar("Value")


def count() -> int:
    """Return how many processes work on the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Return whether this is the process that keeps the run directory, or the only one."""
    return count() == 1 or int(os.environ.get("RANK", "0")) == 0


def said_by_leader(value: Value) -> Value:
    """Return the leader's value in every process, which all wait for."""
    if count() == 1:
        return value
    distributed = _joined()
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def wait_for_all() -> None:
    """Wait until every process is here."""
    if count() > 1:
        _joined().barrier()


def _joined() -> Any:
    """Return torch's module of distributed work, joined."""
    import torch.distributed as distributed

    if not distributed.is_initialized():
        import torch

        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return distributed
