"""The loss of the task itself, without a teacher."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from edgekd.data.dataset import CLASS_MAPS
from edgekd.losses.step import at_least_float32
from edgekd.models.signature import Task

UNLABELLED: tuple[Task, ...] = ("anomaly",)  # the input itself is the target


def has_classes(task: Task) -> bool:
    """Return whether the first output are logits of classes."""
    return task in ("classification", *CLASS_MAPS)


def has_task_loss(task: Task, *, labelled: bool) -> bool:
    """Return whether a network can be trained for its task alone."""
    return task in UNLABELLED or (labelled and task != "embedding")


def task_loss(
    task: Task, output: Tensor, targets: Tensor | None, inputs: Mapping[str, Tensor], valid: Tensor | None = None
) -> Tensor:
    """Return the loss of every element of a network's first output: cross-entropy, squared or reconstruction error.

    Args:
        task: as the signature says.
        output: (N, C), (N, C, H, W), tokens (N, L, C), or values; one logit (N, 1, ...) tells two classes apart.
        targets: class indices (N,), masks (N, H, W) or tokens (N, L) with -1 for no label, or values.
        inputs: the batch's inputs; the target of a reconstruction.
        valid: which values of a dense output (N, positions ...) count; None: all.

    Returns:
        (N,) or (N, positions ...); ignored positions are 0.
    """
    output = at_least_float32(output)
    if task == "anomaly":
        return _squares(output, next(iter(inputs.values())), valid)
    assert targets is not None
    if task in ("regression", "detection"):
        return _squares(output, targets, valid)
    classes = output.movedim(-1, 1) if task == "tokens" else output
    if classes.shape[1] == 1:
        known = targets.clamp(min=0).to(output.dtype)
        lost = functional.binary_cross_entropy_with_logits(classes[:, 0], known, reduction="none")
        return lost * (targets >= 0)
    return functional.cross_entropy(classes, targets.long(), ignore_index=-1, reduction="none")


def _squares(output: Tensor, targets: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean squared error of every sample (N,), over its values or those that count."""
    wanted = targets.reshape(output.shape).to(output.dtype)
    errors = functional.mse_loss(output, wanted, reduction="none")
    if valid is None or valid[0].numel() not in (1, errors[0].numel()):
        return errors.flatten(1).mean(1)
    weight = valid.flatten(1).to(errors.dtype).expand(len(errors), errors[0].numel())
    return (errors.flatten(1) * weight).sum(1) / weight.sum(1).clamp(min=1)


def counted(task: Task, targets: Tensor | None) -> Tensor | None:
    """Return which elements have a label, (N, positions ...), where some may have none."""
    return targets >= 0 if task in CLASS_MAPS and targets is not None else None
