"""The context of a run: what every stage may use besides the model state and its own settings."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from edgekd.data import Parts
from edgekd.metrics import Metric
from edgekd.models.signature import Signature
from edgekd.target import Runtime, Target


class Progress(Protocol):
    """Progress of long work: `advance` says what is done; the caller shows it, or nothing."""

    def __call__(self, description: str, total: int) -> "AbstractContextManager[Callable[[int], None]]":
        """Open a bar; the block gets a function that advances it."""


@dataclass(frozen=True)
class Context:
    """Target, data, teacher, seed, device and log of a run.

    `workdir` is a folder for intermediate files; `teacher` builds the network that students learn from, on the CPU
    and in eval mode; `threads` is what training and export may use.
    """

    target: Target
    runtime_name: str
    signature: Signature
    parts: Parts
    metric: Metric
    teacher: Callable[[], nn.Module] | None
    seed: int
    device: str
    threads: int
    workdir: Path
    log: Callable[[str], None]
    progress: Progress

    @property
    def runtime(self) -> Runtime:
        """Return the runtime that this run exports for."""
        return self.target.runtime[self.runtime_name]
