"""A reward for weights that are learned: by how much the task loss fell, against what is usual."""

import math

import torch
from torch import Tensor, nn


class Reward(nn.Module):
    """The fall of the task loss from step to step, standardised by its running mean and variance.

    All state is in buffers. A loss seen at a step was taken before the optimizer moved, so its fall is owed to the weights
    of the step before.
    """

    last: Tensor
    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        for name in ("last", "mean", "variance"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def advantage(self, task_loss: float) -> float:
        """Take in the loss of a step; return how unusual its fall is, within -3 and 3.

        Args:
            task_loss: the task loss of this step, the same on all processes.

        Returns:
            (fall - mean fall) / deviation; 0 while there are fewer than three losses, or the loss is not finite.
        """
        if not math.isfinite(task_loss):
            return 0.0
        fall, number = float(self.last) - task_loss, int(self.seen)
        self.last.fill_(task_loss)
        self.seen += 1
        if number == 0:
            return 0.0
        if number == 1:
            self.mean.fill_(fall)
            return 0.0
        difference = fall - float(self.mean)
        spread = difference**2
        usual = spread if number == 2 else self.momentum * float(self.variance) + (1 - self.momentum) * spread
        self.variance.fill_(usual)
        self.mean += (1 - self.momentum) * difference
        return max(-3.0, min(3.0, difference / math.sqrt(usual))) if usual > 0 else 0.0
