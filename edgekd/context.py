"""The context of a run: what every stage may use besides the model state and its own settings."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from edgekd.data import Part, Parts
from edgekd.metrics import Metric
from edgekd.models.signature import Signature
from edgekd.target import Runtime, Target
from edgekd.teachers.teacher import Teacher


class Progress(Protocol):
    """Progress of long work: `advance` says what is done; the caller shows it, or nothing."""

    def __call__(self, description: str, total: int) -> "AbstractContextManager[Callable[[int], None]]":
        """Open a bar; the block gets a function that advances it."""


@dataclass(frozen=True)
class Context:
    """Target, data, teachers, seed, device and log of a run.

    `workdir` is a folder for intermediate files; `checkpoint` a file that survives a kill, for a training that goes on from
    it; `teacher_cache` a folder for answers of teachers. `teachers` make what students learn from, by name; none means the
    uncompressed network, which `reference` builds. `other_part` opens further data by their source, for a signature (None:
    the run's own). `threads` is what training and export may use.
    """

    target: Target
    runtime_name: str
    signature: Signature
    parts: Parts
    metric: Metric
    teachers: Mapping[str, Callable[[Part], Teacher]]
    reference: Callable[[], nn.Module] | None
    other_part: Callable[[str, Signature | None], Part]
    seed: int
    device: str
    threads: int
    workdir: Path
    log: Callable[[str], None]
    progress: Progress
    checkpoint: Path | None = None
    teacher_cache: Path | None = None

    @property
    def runtime(self) -> Runtime:
        """Return the runtime that this run exports for."""
        return self.target.runtime[self.runtime_name]
