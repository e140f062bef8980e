"""The samples that a loss between whole samples looks at."""

from torch import Tensor

from edgekd.losses.step import Step


def counted(tensor: Tensor, step: Step) -> Tensor:
    """Return the samples (N', ...) of this process that `valid` does not leave out; a mask of positions leaves out none."""
    return tensor if step.valid is None or step.valid.ndim != 1 else tensor[step.valid]


def whole_batch(tensor: Tensor, step: Step) -> Tensor:
    """Return the samples (B, ...) of all processes that `valid` does not leave out."""
    gathered = step.gather(tensor)
    return gathered if step.valid is None or step.valid.ndim != 1 else gathered[step.gather(step.valid)]
