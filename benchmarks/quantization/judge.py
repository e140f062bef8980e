"""Compares files with the float network, and one with the others, on the same samples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.metrics import agreement, signal_to_noise

Array = NDArray[Any]
Interval = tuple[float, float, float]  # a difference and the ends of its 95 % interval
DRAWS = 2_000
_FLAT = 1e-30  # no noise at all


class Judge:
    """Scores of outputs (N, classes) against the float network's, and against labels (N,) where there are any.

    Intervals are those of a bootstrap that draws whole groups, or samples where there are none: crops of one photograph
    resemble each other.
    """

    def __init__(self, reference: Array, groups: Array | None, labels: Array | None) -> None:
        self._reference, self._labels = reference, labels
        names, self._of = np.unique(np.arange(len(reference)) if groups is None else groups, return_inverse=True)
        random = np.random.default_rng(0)
        self._times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)  # of each group

    def score(self, outputs: Array) -> dict[str, float]:
        """Return agreement and accuracy in percent and the signal-to-noise ratio in dB."""
        found = {
            "agreement": agreement(outputs, self._reference),
            "sqnr": signal_to_noise(outputs, self._reference),
        }
        if self._labels is not None:
            found["accuracy"] = 100 * float((outputs.argmax(1) == self._labels).mean())
        return found

    def compare(self, ours: Array, theirs: Array) -> dict[str, Interval]:
        """Return ours minus theirs for every score."""
        shares = {"agreement": self._reference.argmax(1)}
        if self._labels is not None:
            shares["accuracy"] = self._labels
        counts = self._times @ np.bincount(self._of)
        found = {}
        for name, wanted in shares.items():
            gain = self._sums((ours.argmax(1) == wanted).astype(float) - (theirs.argmax(1) == wanted))
            found[name] = self._interval(100 * gain.sum() / len(self._of), 100 * (self._times @ gain) / counts)
        noise = [self._sums(((one.astype(np.float64) - self._reference) ** 2).sum(1)) + _FLAT for one in (ours, theirs)]
        ratios = 10 * np.log10((self._times @ noise[1]) / (self._times @ noise[0]))
        found["sqnr"] = self._interval(10 * np.log10(noise[1].sum() / noise[0].sum()), ratios)
        return found

    def _sums(self, values: Array) -> Array:
        return np.bincount(self._of, weights=values)

    def _interval(self, value: float, draws: Array) -> Interval:
        low, high = np.quantile(draws, (0.025, 0.975))
        return float(value), float(low), float(high)
