"""A policy: the target moves up the teacher's depth as the student's features align with it."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.losses.feature.cka import linear_cka
from edgekd.losses.feature.feature_loss import LayerPolicy
from edgekd.losses.feature.positions import as_tokens, counted_positions, paired
from edgekd.losses.step import Setup, Step

THRESHOLD = "alignment (running mean of linear CKA) from which the next block is the target"
RATE = "share of a new step in the running mean; 1: that step alone"
MAX_EPOCHS = "epochs after which a block is left in any case"
SNAP = "moment of training, 0 to 1, from which the last block is the target; not set: never"


class Progress(nn.Module):
    """Where a curriculum stands: `block` (from 0), `ema` of its alignment, `epochs` spent on it."""

    block: Tensor
    ema: Tensor
    epochs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("block", torch.zeros((), dtype=torch.long))
        self.register_buffer("ema", torch.zeros(()))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))

    def move_to(self, block: int) -> None:
        """Begin with a block, unless it is the present one."""
        if block != int(self.block):
            self.block.fill_(block)
            self.ema.zero_()
            self.epochs.zero_()


class CkaCurriculum(LayerPolicy):
    """One target block at a time, the first at first.

    ema <- a CKA + (1 - a) ema after every step. Where ema >= threshold, or after `max_epochs` epochs, the next block is the
    target and ema starts at 0. The teacher need not be run behind the target.
    """

    title: ClassVar[str] = "CKA curriculum"
    source: ClassVar[str] = "LEAP, arXiv 2606.19483"
    evidence: ClassVar[str] = "C"
    variant: ClassVar[str] = "every position of a map or sequence is a row of the CKA"
    applies: ClassVar[str] = "deep teachers of equal blocks, e.g. vision transformers; any feature loss"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "batch"})

    kind: Literal["cka-curriculum"] = "cka-curriculum"
    student: str = Field(description="student's tap")
    blocks: tuple[str, ...] = Field(min_length=1, description="teacher's taps, in order")
    threshold: float = Field(default=0.85, gt=0, le=1, description=THRESHOLD)
    rate: float = Field(default=0.05, gt=0, le=1, description=RATE)
    max_epochs: int = Field(default=5, ge=1, description=MAX_EPOCHS)
    snap_to_last_at: float | None = Field(default=None, ge=0, le=1, description=SNAP)

    @classmethod
    def example(cls) -> "CkaCurriculum":
        """Return a curriculum of two blocks, the first for one epoch."""
        return cls(student="penultimate", blocks=("blocks.1", "blocks.2"), max_epochs=1)

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's tap."""
        return (self.student,)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the target block; without a memory every block."""
        return (self.blocks[int(memory.block)],) if isinstance(memory, Progress) else self.blocks

    def prepare(self, setup: Setup) -> nn.Module:
        """Return where the curriculum stands.

        Raises:
            InputError: the positions of student and a block do not correspond.
        """
        student = setup.student.features[self.student]
        teacher = next(iter(setup.teachers.values())).features
        for block in self.blocks:
            paired(self.kind, student, teacher[block])
        return Progress().to(student.device)

    def pairs(self, step: Step, memory: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
        """Return the pair with the target block, then look whether it is time for the next one."""
        assert isinstance(memory, Progress)
        pair = self._pair(step, self.blocks[int(memory.block)])
        self._watch(step, pair[1].detach(), pair[2], memory)
        return [pair]

    def all_pairs(self, step: Step, memory: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
        """Return the pairs with every block."""
        return [self._pair(step, block) for block in self.blocks]

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Leave the block after its last epoch."""
        assert isinstance(memory, Progress)
        memory.epochs += 1
        if int(memory.epochs) >= self.max_epochs:
            self._advance(memory)

    def _pair(self, step: Step, block: str) -> tuple[str, Tensor, Tensor]:
        teacher = step.the_teacher.features[block].detach()
        return f"{self.student}~{block}", step.student.features[self.student], teacher

    @torch.no_grad()
    def _watch(self, step: Step, student: Tensor, teacher: Tensor, memory: Progress) -> None:
        if int(memory.block) == len(self.blocks) - 1:
            return
        mine, yours = paired(self.kind, student, teacher)
        counted = step.gather(counted_positions(step, mine)).flatten()
        rows = [step.gather(as_tokens(side)).flatten(0, 1)[counted] for side in (mine, yours)]
        if not len(rows[0]):
            return
        memory.ema.lerp_(linear_cka(*rows).to(memory.ema.dtype), self.rate)
        if self.snap_to_last_at is not None and step.progress >= self.snap_to_last_at:
            memory.move_to(len(self.blocks) - 1)
        elif float(memory.ema) >= self.threshold:
            self._advance(memory)

    def _advance(self, memory: Progress) -> None:
        memory.move_to(min(int(memory.block) + 1, len(self.blocks) - 1))
