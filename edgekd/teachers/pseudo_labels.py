"""One label of what several teachers say: masks by vote, depth by a fit for every instance.

Source: Instance-Aware KD, arXiv 2606.16414. The paper's rules are not at hand: vote, fit and fallback are edgekd variants.
"""

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import InputError

IGNORED = -1


def vote_masks(
    masks: NDArray[np.integer], weights: NDArray[np.floating] | None = None, least: float = 0.0
) -> NDArray[np.int64]:
    """Return the class with the greatest weight of votes at every pixel.

    The winner is argmax_c Σ_k w_k [m_k = c]. It is -1 where two classes are level, where nobody votes, and where the
    winner has less than `least` of the weight of those who vote.

    Args:
        masks: class indices of K teachers, (K, N, H, W); -1 is no vote.
        weights: w >= 0, (K,), (K, N) or (K, N, H, W); None: all 1.
        least: share of the votes that the winner needs, in [0, 1]; 0.5 is half of them.

    Returns:
        (N, H, W), int64.

    Raises:
        InputError: shapes do not fit, or a weight is negative or not finite.
    """
    if masks.ndim != 4 or masks.dtype.kind not in "iub":
        raise InputError(
            f"masks have the shape {masks.shape} and dtype {masks.dtype}; integers (K, N, H, W) are needed"
        )
    given = np.ones(len(masks)) if weights is None else np.asarray(weights, np.float64)
    if given.shape != masks.shape[: given.ndim] or given.ndim == 3 or not (np.isfinite(given) & (given >= 0)).all():
        raise InputError(
            f"weights have the shape {given.shape} for masks {masks.shape}; give (K,), (K, N) or (K, N, H, W), 0 or more"
        )
    spread = given.reshape(*given.shape, *[1] * (4 - given.ndim))
    winner = np.full(masks.shape[1:], IGNORED, np.int64)
    most, total = np.zeros(masks.shape[1:]), np.zeros(masks.shape[1:])
    for label in np.unique(masks[masks >= 0]).tolist():
        votes = (spread * (masks == label)).sum(0)
        level = np.isclose(votes, most, rtol=1e-9, atol=0) & (votes > 0)
        winner = np.where(level, IGNORED, np.where(votes > most, label, winner))
        most, total = np.maximum(most, votes), total + votes
    return np.where(most < least * total * (1 - 1e-9), IGNORED, winner)


def fit_instance_depth(
    relative: NDArray[np.floating],
    reference: NDArray[np.floating],
    instances: NDArray[np.integer],
    fewest: int = 16,
) -> NDArray[np.float32]:
    """Return relative depth in the scale of a reference: scale and shift by least squares for every instance.

    For an instance with pixels P where the reference is known, a, b = argmin Σ_P (a r + b - z)²; its depth is a r + b. An
    instance takes the fit of its whole image where it has fewer known pixels than `fewest`, its relative depth is constant,
    or its scale has the other sign than the image's, which would turn near and far around. So do pixels of no instance.

    Args:
        relative: depth up to scale and shift, r, (N, H, W).
        reference: depth z in known places, (N, H, W); NaN where it is not known.
        instances: number of the instance of every pixel, (N, H, W); negative: none.
        fewest: known pixels that a fit needs, 2 or more.

    Returns:
        (N, H, W), float32; NaN for an image whose reference is known in fewer than two different depths.

    Raises:
        InputError: shapes differ.
    """
    if not relative.shape == reference.shape == instances.shape or relative.ndim != 3:
        raise InputError(
            f"relative {relative.shape}, reference {reference.shape} and instances {instances.shape} are not one (N, H, W)"
        )
    depth = np.full(relative.shape, np.nan, np.float32)
    for image, (near, known, groups) in enumerate(zip(relative, reference, instances, strict=True)):
        usable = np.isfinite(near) & np.isfinite(known)
        overall = _fit(near[usable], known[usable], 2)
        if overall is None:
            continue
        depth[image] = overall[0] * near + overall[1]
        for group in np.unique(groups[groups >= 0]):
            member = groups == group
            own = _fit(near[member & usable], known[member & usable], max(fewest, 2))
            if own is not None and own[0] * overall[0] > 0:
                depth[image][member] = own[0] * near[member] + own[1]
    return depth


def _fit(near: NDArray[np.floating], known: NDArray[np.floating], fewest: int) -> tuple[float, float] | None:
    """Return scale and shift, or None where the values do not decide them."""
    if len(near) < fewest:
        return None
    x, y = near.astype(np.float64), known.astype(np.float64)
    centred = x - x.mean()
    spread = float(centred @ centred)
    if spread <= 1e-12 * max(float(x @ x), 1e-12):
        return None
    scale = float(centred @ (y - y.mean())) / spread
    return scale, float(y.mean()) - scale * float(x.mean())
