"""Knowledge distillation by softened probabilities."""

import torch
from torch import Tensor


def temperature_kl(
    student: Tensor, teacher: Tensor, temperature: float = 4.0, *, dim: int = 1, valid: Tensor | None = None
) -> Tensor:
    """Return T² KL(softmax(teacher / T) || softmax(student / T)), averaged over the valid elements.

    Args:
        student: logits, classes along `dim`, e.g. (N, C) or (N, C, H, W).
        teacher: logits of the same shape; no gradient flows into them.
        temperature: T > 0, softens both distributions; T² keeps the gradient's size independent of it.
        dim: axis of the classes.
        valid: mask of the shape without `dim`; False elements do not count.

    Returns:
        A scalar, in float32 whatever the inputs are.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    log_student = torch.log_softmax(student.float() / temperature, dim)
    log_teacher = torch.log_softmax(teacher.detach().float() / temperature, dim)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim)
    if valid is not None:
        weight = valid.to(divergence.dtype)
        return temperature**2 * (divergence * weight).sum() / weight.sum().clamp(min=1)
    return temperature**2 * divergence.mean()
