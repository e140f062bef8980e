"""Features, labels and losses of whole samples."""

from torch import Tensor

from edgekd.losses.feature.positions import mean_where


def pooled(feature: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return one vector a sample (N, D): vectors as they are, means over the positions of tokens (N, L, D) or maps (N, D, ...).

    Of tokens only those that count by `valid` (N, L) are averaged.
    """
    if feature.ndim == 3:
        return feature.mean(1) if valid is None or valid.shape != feature.shape[:2] else mean_where(feature, valid)
    return feature.flatten(2).mean(2) if feature.ndim > 3 else feature


def sample_mean(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of every sample (N,) of values (N, ...), over the positions that `valid` (N, ...) leaves in."""
    if values.ndim == 1:
        return values
    if valid is None or valid.shape != values.shape:
        return values.flatten(1).mean(1)
    counted = valid.to(values.dtype)
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)
