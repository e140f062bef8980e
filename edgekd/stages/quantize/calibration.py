"""Calibration: the range that an activation's 8 bits cover, chosen from the histogram of its values.

A range holds 0, which is then a level of its own: zeros, padding among them, are exact.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgekd.stages.quantize.observation import Histogram
from edgekd.stages.quantize.settings import Calibrator, QuantizeSettings

LEVELS = 255  # steps of an 8-bit range
_ROUNDS = 4

Range = tuple[float, float]


def choose_range(
    histogram: Histogram, calibrator: Calibrator, settings: QuantizeSettings, *, symmetric: bool = False
) -> Range:
    """Return the range (low, high) that a calibrator gives a tensor; it always holds 0.

    In a symmetric scheme the levels lie between -m and m, m the farther end, whatever the other end is.
    """
    low, high = histogram.low, histogram.high
    if high > low:
        methods: dict[str, Callable[[], Range]] = {
            "min-max": lambda: (low, high),
            "percentile": lambda: _percentile(histogram, settings.percentile),
            "mse": lambda: _least_error(histogram, symmetric),
            "entropy": lambda: _least_divergence(histogram, symmetric),
        }
        low, high = methods[calibrator]()
    return min(low, 0.0), max(high, 0.0)


def _percentile(histogram: Histogram, percentile: float) -> Range:
    """Cut (100 - percentile) % of the values off, half at each end that is not zero."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (100 - percentile) / 100
    if histogram.low < 0 < histogram.high:
        tail /= 2
    edges, last = histogram.edges, len(histogram.counts) - 1
    low = edges[min(int(np.searchsorted(share, tail, "right")), last)] if histogram.low < 0 else histogram.low
    high = edges[min(int(np.searchsorted(share, 1 - tail)), last) + 1] if histogram.high > 0 else histogram.high
    return float(low), float(high)


def _least_error(histogram: Histogram, symmetric: bool) -> Range:
    """Return the range with the least mean squared error of the quantized values.

    Over the values x, with step d = (high - low) / 255, the error is

        E[(x - clip(x, low, high))²] + P(low <= x <= high) d² / 12,

    clipping and rounding. One end at a time moves, the other stays, until neither does. Source: Sung et al., Resiliency
    of Deep Neural Networks under Quantization, 2015 (L2 error); Banner et al., ACIQ, 2019 (the two terms).
    """
    centers, counts = histogram.centers, histogram.counts.astype(np.float64)
    factors = np.geomspace(1.0, 0.05, 100)

    def error(low: float, high: float) -> float:
        inside = (centers >= low) & (centers <= high)
        clipped = centers - np.clip(centers, low, high)
        width = 2 * max(-low, high) if symmetric else high - low
        return float((counts * (clipped**2 + inside * (width / LEVELS) ** 2 / 12)).sum())

    widest = min(histogram.low, 0.0), max(histogram.high, 0.0)
    low, high = widest
    for _ in range(_ROUNDS):
        before = low, high
        low = min((widest[0] * factor for factor in factors), key=lambda end: error(end, high)) if low < 0 else low
        high = min((widest[1] * factor for factor in factors), key=lambda end: error(low, end)) if high > 0 else high
        if (low, high) == before:
            break
    return float(low), float(high)


def _least_divergence(histogram: Histogram, symmetric: bool) -> Range:
    """Return the range whose quantized distribution has the least Kullback-Leibler divergence from the clipped one.

    Both ends shrink by one factor. The bin of 0 counts as much as its neighbours do: 0 is exact in every range, and a
    network with ReLU has so many zeros that spreading them over a level would drown all else.
    Source: Migacz, 8-bit Inference with TensorRT, 2017.
    """
    centers = histogram.centers
    counts = _without_zeros(histogram)

    def divergence(span: Range) -> float:
        low, high = min(span[0], 0.0), max(span[1], 0.0)
        inside = (centers >= low) & (centers <= high)
        reference = counts[inside].copy()
        if reference.sum() == 0:
            return np.inf
        start, end = (-max(-low, high), max(-low, high)) if symmetric else (low, high)
        level = np.minimum(((centers[inside] - start) / (end - start) * (LEVELS + 1)).astype(int), LEVELS)
        occupied = reference > 0
        members = np.bincount(level, occupied, LEVELS + 1)
        spread = np.bincount(level, reference, LEVELS + 1) / np.maximum(members, 1)
        quantized = np.where(occupied, spread[level], 0.0)
        reference[0] += counts[centers < low].sum()
        reference[-1] += counts[centers > high].sum()
        p, q = reference / reference.sum(), quantized / quantized.sum()
        used = p > 0
        return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-9))).sum())

    # A level holds at least two bins, or a small range would seem to lose nothing.
    smallest = min(1.0, 2 * (LEVELS + 1) / len(counts))
    candidates = [(histogram.low * factor, histogram.high * factor) for factor in np.geomspace(1.0, smallest, 60)]
    return min(candidates, key=divergence)


def _without_zeros(histogram: Histogram) -> NDArray[np.float64]:
    counts = histogram.counts.astype(np.float64)
    if histogram.low <= 0 <= histogram.high:
        position = min(int(np.searchsorted(histogram.edges, 0.0, "right")) - 1, len(counts) - 1)
        neighbours = [counts[other] for other in (position - 1, position + 1) if 0 <= other < len(counts)]
        counts[position] = min(counts[position], np.mean(neighbours))
    return counts
