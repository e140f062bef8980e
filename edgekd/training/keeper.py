"""What is kept beside the weights of a training: their moving average, the best ones, and the checkpoint."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.models.exported_graph import set_training
from edgekd.training.checkpoint import Checkpoint
from edgekd.training.history import History
from edgekd.training.settings import TrainingSettings

Score = Callable[[nn.Module], tuple[float, bool]]  # of a network on validation data, and whether higher is better


@dataclass
class Keeper:
    """What is kept beside the weights: their moving average, the best ones, and the checkpoint."""

    student: nn.Module
    settings: TrainingSettings
    score: Score | None
    checkpoint: Checkpoint
    history: History
    generator: torch.Generator
    log: Callable[[str], None]
    leads: bool
    phase: str
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    number: int  # of the phase
    mean: dict[str, Tensor] | None = None
    best: dict[str, Tensor] | None = None
    best_score: float | None = None
    waited: int = 0

    def average(self) -> None:
        """Move the average of the weights by one step."""
        decay = self.settings.ema
        if decay is None:
            return
        state = self.student.state_dict()
        if self.mean is None:
            self.mean = {name: tensor.clone() for name, tensor in state.items()}
        for name, tensor in state.items():
            if tensor.is_floating_point():
                self.mean[name].lerp_(tensor, 1 - decay)
            else:
                self.mean[name].copy_(tensor)

    def end_epoch(self, epoch: int) -> bool:
        """Judge the weights, write the checkpoint, and return whether to stop."""
        stop = False
        if self.settings.patience is not None and self.score is not None:
            stop = self._judge()
        if self.leads:
            self.checkpoint.save(self._state(epoch + 1) | {"stopped": stop})
        return stop

    def _judge(self) -> bool:
        assert self.score is not None and self.settings.patience is not None
        with self._averaged():
            set_training(self.student, False)
            score, higher = self.score(self.student)
            self.history.validation.append(score)
            better = self.best_score is None or (score > self.best_score if higher else score < self.best_score)
            if better:
                self.best_score, self.waited = score, 0
                self.best = {name: tensor.clone() for name, tensor in self.student.state_dict().items()}
                return False
        self.waited += 1
        if self.waited >= self.settings.patience:
            self.history.stopped = f"{self.phase}: no better validation score for {self.waited} epochs"
            self.log(f"stopped early, {self.history.stopped}")
            return True
        return False

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the student its averaged weights for the time being."""
        if self.mean is None:
            yield
            return
        student = self.student
        own = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        student.load_state_dict(self.mean)
        try:
            yield
        finally:
            student.load_state_dict(own)

    def finish(self) -> None:
        """Leave the weights that were asked for in the student."""
        chosen = self.best if self.best is not None else self.mean
        if chosen is not None:
            self.student.load_state_dict(chosen)

    def _state(self, epoch: int) -> dict[str, Any]:
        return {
            "phase": self.number,
            "epoch": epoch,
            "objective": dict(self.objective.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "generator": self.generator.get_state(),
            "mean": self.mean,
            "best": self.best,
            "best_score": self.best_score,
            "waited": self.waited,
            "history": vars(self.history),
        }

    def restore(self, state: dict[str, Any]) -> int | None:
        """Take everything from a checkpoint; return the epoch to go on with, none where the phase had stopped early."""
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        self.generator.set_state(state["generator"])
        self.mean, self.best = state["mean"], state["best"]
        self.best_score, self.waited = state["best_score"], state["waited"]
        return None if state["stopped"] else int(state["epoch"])
