"""The shapes that a search has tried, on disk too: a killed search goes on with the next one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from edgekd import processes
from edgekd.training.checkpoint import Checkpoint

Shape = tuple[float, ...]  # the share that stays of every axis; of the depth, that of the blocks which may go


@dataclass
class Tried:
    """What became of every shape, by the shape, and the weights of the best one."""

    checkpoint: Checkpoint
    rows: dict[Shape, dict[str, Any]] = field(default_factory=dict)
    best: Shape | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def so_far(cls, checkpoint: Checkpoint) -> "Tried":
        """Return what the checkpoint has, or nothing.

        Raises:
            StageError: the file is damaged.
        """
        return cls(checkpoint, **(checkpoint.load() or {}))

    def add(self, shape: Shape, row: dict[str, Any], module: nn.Module, better: Callable[[float, float], bool]) -> None:
        """Keep a shape that was trained: its row, whose score is compared, and its weights where it is the best now."""
        self.rows[shape] = row
        if self.best is None or better(row["score"], self.rows[self.best]["score"]):
            self.best = shape
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        self._save()

    def add_too_large(self, shape: Shape, row: dict[str, Any]) -> None:
        """Keep a shape that is over the budget."""
        self.rows[shape] = row
        self._save()

    def _save(self) -> None:
        if processes.leads():
            self.checkpoint.save({"rows": self.rows, "best": self.best, "weights": self.weights})
