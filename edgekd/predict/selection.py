"""Which networks to measure first, where few can be: M30 of TCL, edgekd variant.

A network is worth its measurement where the boards that are known disagree about it (uncertainty), where others are like it
(representativeness), and where it is unlike those that are measured already (diversity). Each is a rank among the
candidates; the largest product is taken, and diversity looked at anew (k-centre greedy).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekd.predict.features import OPERATORS, Kernel
from edgekd.predict.latency import Coefficients, network_ms
from edgekd.predict.predictor import profile

Floats = NDArray[np.float64]


def choose_networks(
    networks: Sequence[Sequence[Kernel]], count: int, known: Sequence[Coefficients], measured: Sequence[int] = ()
) -> list[int]:
    """Return the numbers of the networks to measure, the most useful first.

    Args:
        networks: all candidates, and those that are measured already.
        count: how many to choose; fewer are returned where fewer are left.
        known: coefficients of other boards.
        measured: the numbers of networks that are measured already.
    """
    places = _places(networks)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    uncertainty, likeness = _disagreement(networks, known), _likeness(apart)
    taken = list(measured)
    chosen: list[int] = []
    left = [number for number in range(len(networks)) if number not in taken]
    while left and len(chosen) < count:
        diversity = apart[:, taken].min(axis=1) if taken else np.ones(len(networks))
        score = _ranks(uncertainty[left]) * _ranks(likeness[left]) * _ranks(diversity[left])
        best = left.pop(int(np.argmax(score)))
        chosen.append(best)
        taken.append(best)
    return chosen


def _places(networks: Sequence[Sequence[Kernel]]) -> Floats:
    """Return where networks lie (networks x features): how operators share the work, and its size; a factor of ten is 1."""
    shares = [[profile(one).get(operator, 0.0) for operator in OPERATORS] for one in networks]
    sizes = [
        [sum(kernel.macs for kernel in one) + 1.0, sum(kernel.bytes for kernel in one) + 1.0, len(one)]
        for one in networks
    ]
    return np.hstack([np.array(shares), np.log10(np.array(sizes))])


def _disagreement(networks: Sequence[Sequence[Kernel]], known: Sequence[Coefficients]) -> Floats:
    """Return the variance of log-latency among boards, whose common factors are free; 0 for fewer than two boards."""
    said = np.log([[network_ms(one, board) for one in networks] for board in known]).reshape(-1, len(networks))
    if len(said) < 2:
        return np.zeros(len(networks))
    return np.asarray(np.var(said - said.mean(axis=1, keepdims=True), axis=0))


def _likeness(apart: Floats) -> Floats:
    """Return how densely each is surrounded: a Gaussian kernel as wide as the median distance."""
    others = apart[~np.eye(len(apart), dtype=bool)]
    width = float(np.median(others)) if others.size else 1.0
    return np.asarray(np.exp(-((apart / max(width, 1e-9)) ** 2)).sum(axis=1))


def _ranks(values: Floats) -> Floats:
    """Return ranks from 1, equal ones for equal values."""
    return np.asarray(np.searchsorted(np.sort(values), values) + 1.0)
