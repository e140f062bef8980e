"""Means and paired comparisons over a few seeds: Student's t, and Holm's correction for trying several arms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.05  # below it a corrected p tells two arms apart
_LARGEST = 700.0  # whose exponential is a finite number


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval, which a single value has not."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """The mean of paired differences with its 95 % interval and two-sided p."""

    mean: float
    low: float
    high: float
    p: float
    pairs: int

    def in_words(self, digits: int = 2) -> tuple[str, str]:
        """Return the difference and its interval, with signs."""
        return f"{self.mean:+.{digits}f}", f"{self.low:+.{digits}f} to {self.high:+.{digits}f}"


@dataclass(frozen=True)
class Compared:
    """An arm's paired difference from the reference, and its p corrected for the number of arms (Holm)."""

    difference: Paired
    corrected: float

    @property
    def verdict(self) -> str:
        """Return `better`, `worse` or `not distinguishable`."""
        if self.corrected >= LEVEL:
            return "not distinguishable"
        return "better" if self.difference.mean > 0 else "worse"


def compared(
    scores: Mapping[str, Sequence[float]], reference: Sequence[float], *, higher_is_better: bool = True
) -> dict[str, Compared]:
    """Compare arms with a reference, seed by seed; a difference above 0 is an improvement.

    Args:
        scores: of every arm, in the order of the reference's seeds.
        reference: the scores of the arm that the others are compared with.
        higher_is_better: of the score.
    """
    sign = 1 if higher_is_better else -1
    found = {
        name: paired([sign * (one - other) for one, other in zip(mine, reference, strict=True)])
        for name, mine in scores.items()
    }
    corrected = holm({name: one.p for name, one in found.items()})
    return {name: Compared(one, corrected[name]) for name, one in found.items()}


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean with its 95 % interval by Student's t."""
    mean, error = _mean_and_error(values)
    if error is None:
        return Mean(mean, None, None)
    half = t_quantile(0.975, len(values) - 1) * error
    return Mean(mean, mean - half, mean + half)


def geometric_mean_of(values: Sequence[float]) -> Mean:
    """Return the geometric mean of times or ratios with its 95 % interval: that of the logarithms."""
    logs = mean_of([math.log(value) for value in values])
    low, high = (None if end is None else math.exp(min(end, _LARGEST)) for end in (logs.low, logs.high))
    return Mean(math.exp(logs.mean), low, high)


def paired(differences: Sequence[float]) -> Paired:
    """Compare two arms by the differences of their scores, one a seed (paired t-test).

    Raises:
        ValueError: less than two differences.
    """
    count = len(differences)
    mean, error = _mean_and_error(differences)
    if error is None:
        raise ValueError("a paired test needs two pairs at least")
    if error <= 1e-9 * abs(mean):  # equal differences have no t; p is that of as many equal signs
        return Paired(mean, mean, mean, 2.0 ** (1 - count) if mean else 1.0, count)
    half = t_quantile(0.975, count - 1) * error
    return Paired(mean, mean - half, mean + half, 2 * (1 - t_cdf(abs(mean) / error, count - 1)), count)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and its standard error, None of a single value."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return mean, None
    return mean, math.sqrt(sum((one - mean) ** 2 for one in values) / (count - 1) / count)


def t_cdf(t: float, freedom: int) -> float:
    """Return the distribution function of Student's t with whole degrees of freedom, by its finite series.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    if freedom % 2:
        term, total = cosine, cosine if freedom > 1 else 0.0
        for step in range(3, freedom - 1, 2):
            term *= cosine**2 * (step - 1) / step
            total += term
        inside = 2 / math.pi * (angle + sine * total)
    else:
        term = total = 1.0
        for step in range(2, freedom - 1, 2):
            term *= cosine**2 * (step - 1) / step
            total += term
        inside = sine * total
    return (1 + inside) / 2


def t_quantile(share: float, freedom: int) -> float:
    """Return the value below which that share of Student's t lies, by bisection."""
    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number: reject in order while p times what is left stays below the level.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    corrected, largest = {}, 0.0
    for position, name in enumerate(sorted(p, key=lambda one: p[one])):
        largest = max(largest, min(1.0, p[name] * (len(p) - position)))
        corrected[name] = largest
    return {name: corrected[name] for name in p}
