"""Gradients of the task's loss on the calibration part, for importances that ask what the loss would do."""

import torch
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.models.network import run_network
from edgekd.stages.prune.importance.importance import Score
from edgekd.training.loop import training_part
from edgekd.training.task_loss import task_loss

_BATCH = 64
_SINGLE = 128  # samples of the Fisher information: a backward pass for each


def taylor(module: nn.Module, part: Part) -> Score:
    """Return the first-order change of the loss: |w dL/dw|.

    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, 2019, equation 8.
    """
    import torch_pruning as tp

    part = training_part(part)
    module.zero_grad()
    for start in range(0, len(part), _BATCH):
        (
            _loss(module, part, slice(start, start + _BATCH)) * len(part.indices[start : start + _BATCH]) / len(part)
        ).backward()
    _check(module)
    return tp.importance.GroupTaylorImportance()  # type: ignore[no-any-return]


def hessian(module: nn.Module, part: Part) -> Score:
    """Return the second-order change of the loss, w^2 h, with the diagonal of the empirical Fisher information for h.

    Source: LeCun et al., Optimal Brain Damage, 1989, equation 5. edgekd variant: the first 128 samples.
    """
    import torch_pruning as tp

    part = training_part(part).take(_SINGLE)
    squares: dict[nn.Parameter, Tensor] = {}
    for position in range(len(part)):
        module.zero_grad()
        _loss(module, part, slice(position, position + 1)).backward()
        for parameter in module.parameters():
            if parameter.grad is not None:
                square = parameter.grad.square() / len(part)
                squares[parameter] = squares[parameter] + square if parameter in squares else square
    for parameter, square in squares.items():
        parameter.grad = square  # where Torch-Pruning looks for it; its own sum keeps the last sample only
    _check(module)
    return tp.importance.GroupHessianImportance()  # type: ignore[no-any-return]


def _loss(module: nn.Module, part: Part, positions: slice) -> Tensor:
    inputs = {name: torch.from_numpy(array) for name, array in part.inputs(positions).items()}
    targets = part.targets_at(positions)
    labels = None if targets is None else torch.from_numpy(targets)
    output = next(iter(run_network(module, inputs).values()))
    return task_loss(part.signature.task, output, labels, inputs).mean()


def _check(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise InputError(
                f"the gradients of {name} on the calibration part are NaN or infinite; look for such activations, or rank by "
                "magnitude"
            )
