"""Percentiles and their 95 % intervals, without an assumption about how run times are distributed.

The interval of a percentile runs between two of the sorted samples (order statistics), whose ranks follow from the
binomial distribution. Run times that follow each other resemble each other, so n of them tell less than n independent
ones: the ranks are those of the smaller, effective number of samples.

The interval of a mean is the percentile bootstrap over blocks of successive samples.
"""

import math

import numpy as np

from .arrays import Array

_Z = 1.959964  # 95 % of a normal distribution lie within this many standard deviations
_EXACT_UP_TO = 2000
_MOST_BLOCKS = 200
_FEWEST_BLOCKS = 10
_BLOCK = 4  # times as long as samples resemble each other
_RESAMPLES = 2000


def quantile_interval(samples: Array, quantile: float, independent: bool = False) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a quantile, in the unit of the samples.

    Args:
        samples: In the order in which they were measured.
        quantile: Between 0 and 1; 0.5 is the median.
        independent: Skip the correction for samples that resemble their neighbours.

    Returns:
        The lower and the upper end; None where the samples do not suffice for that end.
    """
    ordered = np.sort(samples)
    below = samples <= np.quantile(ordered, quantile)
    effective = len(ordered) if independent else max(1, int(len(ordered) / inefficiency(below)))
    low, high = _ranks(effective, quantile)
    stretch = len(ordered) / effective
    return (
        None if low is None else float(ordered[max(0, math.floor(low * stretch) - 1)]),
        None if high is None else float(ordered[min(len(ordered), math.ceil(high * stretch)) - 1]),
    )


def mean_interval(samples: Array) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the mean, in the unit of the samples; None where there are too few of them.

    Successive samples are cut into blocks so long that their means are as good as independent; the means are drawn with
    replacement 2,000 times, the same way every time.
    """
    alike = inefficiency(samples)
    blocks = min(_MOST_BLOCKS, int(len(samples) / (_BLOCK * alike if alike > 1 else 1)))
    if blocks < _FEWEST_BLOCKS:
        return None, None
    means = samples[: len(samples) // blocks * blocks].reshape(blocks, -1).mean(axis=1)
    drawn = np.random.default_rng(0).choice(means, (_RESAMPLES, blocks)).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def inefficiency(samples: Array) -> float:
    """Return how many successive samples tell as much as one independent one: 1 or more.

    One plus twice the sum of the autocorrelations, taken in pairs until a pair is negative (Geyer's initial positive
    sequence).
    """
    centred = samples - np.mean(samples)
    size = len(centred)
    variance = float(np.dot(centred, centred))
    if size < 4 or variance == 0.0:
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * size)
    correlation = np.fft.irfft(spectrum * np.conj(spectrum))[:size] / variance
    pairs = correlation[: size - size % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    positive = pairs[: negative[0]] if negative.size else pairs
    return float(np.clip(2.0 * positive.sum() - 1.0, 1.0, size))


def _ranks(count: int, quantile: float) -> tuple[int | None, int | None]:
    """Return the ranks, from 1, between which the quantile of `count` independent samples lies with 95 %."""
    if count > _EXACT_UP_TO:
        half = _Z * math.sqrt(count * quantile * (1 - quantile))
        return max(1, math.floor(count * quantile - half)), min(count, math.ceil(count * quantile + half) + 1)
    steps = np.arange(1, count + 1)
    log_odds = math.log(quantile / (1 - quantile))
    logs = np.concatenate([[0.0], np.cumsum(np.log((count - steps + 1) / steps) + log_odds)])
    chances = np.exp(logs + count * math.log(1 - quantile))  # of 0, 1, ... count samples at or below the quantile
    at_most = np.cumsum(chances)
    low = int(np.searchsorted(at_most, 0.025, side="right"))  # P(fewer than low) <= 2.5 %
    high = int(np.searchsorted(at_most, 0.975, side="left")) + 1  # P(high or more) <= 2.5 %
    return (low if low >= 1 else None), (high if high <= count else None)
