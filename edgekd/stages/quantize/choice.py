"""How the validation part picks among candidates."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from edgekd.data import Part
from edgekd.evaluate import Outputs, judge_outputs
from edgekd.metrics import Metric, signal_to_noise

Score = tuple[float, float]
Candidate = TypeVar("Candidate", bound=Hashable)


def score(outputs: Outputs, reference: Outputs, part: Part, metric: Metric) -> Score:
    """Return the metric, higher is better, and the least signal-to-noise ratio of the outputs against the float network's."""
    value = judge_outputs(outputs, reference, part, metric)
    fidelity = min(signal_to_noise(outputs[name], reference[name]) for name in reference)
    return (value if metric.higher_is_better else -value), fidelity


def best(scores: Mapping[Candidate, Score], metric: Metric) -> Candidate:
    """Return the candidate with the best metric, of equals the one nearest to the float network.

    Where the metric itself compares with the float network the ratio goes first: the share of equal decisions is a coarse
    measure of how near two networks are, the ratio is a fine one.
    """
    return max(scores, key=lambda one: scores[one][::-1] if metric.fidelity else scores[one])


def in_words(score: Score, metric: Metric) -> str:
    """Return a score for the log."""
    value, fidelity = score
    return f"{metric.name} {value if metric.higher_is_better else -value:.4g}, {fidelity:.1f} dB on validation"
