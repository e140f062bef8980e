"""Logits cut to their k highest values and the mass of the rest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST = -60_000.0  # stands for minus infinity, in half precision too: e to it is 0


def split_logits(logits: NDArray[Any], k: int) -> dict[str, NDArray[Any]]:
    """Return the k highest logits relative to the highest, which they are, and the log-sum-exp of the rest.

    With z the logits and m their maximum: d_i = z_i - m in float16 for the k highest, r = log Σ_rest exp(z_j - m) and m in
    float32. Probabilities of the k highest are p_i = exp(d_i) / (Σ_k exp(d_j) + exp(r)): exact but for the rounding of
    d_i, so that to first order |Δp_i| <= 2⁻¹¹ (1/e + W((k - 1) / e)) with Lambert's W, below 2⁻¹⁰ for k <= 16.

    Args:
        logits: (..., C); what is below -60,000 relative to the highest is taken as that.
        k: how many are kept, C at most.

    Returns:
        `highest` m (...), `rest` r (...), `differences` d (..., k) and `indices` (..., k), uint16 where they fit.
    """
    values = np.asarray(logits, np.float64 if logits.dtype == np.float64 else np.float32)
    classes = values.shape[-1]
    k = min(k, classes)
    order = np.argpartition(np.negative(values), k - 1, axis=-1)
    indices = np.sort(order[..., :k], axis=-1)
    highest = values.max(-1)
    relative = np.maximum(values - highest[..., None], LOWEST)
    others = np.take_along_axis(relative, order[..., k:], -1)
    with np.errstate(divide="ignore"):
        rest = np.maximum(np.log(np.exp(others.astype(np.float64)).sum(-1)), LOWEST)
    return {
        "highest": highest.astype(np.float32),
        "rest": rest.astype(np.float32),
        "differences": np.take_along_axis(relative, indices, -1).astype(np.float16),
        "indices": indices.astype(np.uint16 if classes <= 2**16 else np.int32),
    }


def dense_logits(parts: dict[str, NDArray[Any]], classes: int) -> NDArray[np.float32]:
    """Return logits (..., C) of what `split_logits` kept: the C - k others share their mass evenly, m + r - log(C - k).

    With p the true probabilities, q these and ρ the mass of the rest, KL(p, q) = ρ (log(C - k) - H(p_rest)) <= ρ log(C - k),
    beside rounding: only how the rest is spread is lost. This holds at temperature 1. At T > 1 the flat rest holds more
    mass than the true one: Σ_rest exp(z_j / T) <= (C - k)^(1 - 1/T) (Σ_rest exp(z_j))^(1/T), by Jensen's inequality.
    """
    highest, indices = parts["highest"][..., None], parts["indices"].astype(np.int64)
    others = classes - indices.shape[-1]
    share = highest + parts["rest"][..., None] - np.float32(np.log(max(others, 1)))
    dense = np.repeat(share, classes, axis=-1)
    np.put_along_axis(dense, indices, highest + parts["differences"].astype(np.float32), -1)
    return dense
