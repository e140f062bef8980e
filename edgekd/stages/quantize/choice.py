"""How the validation part picks among candidates."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from edgekd.data import Part
from edgekd.evaluate import Outputs, judge_outputs
from edgekd.metrics import Metric, signal_to_noise

Score = tuple[float, float]
Candidate = TypeVar("Candidate", bound=Hashable)


@dataclass(frozen=True)
class Drop:
    """How much worse outputs are than the float network's on a part, in the metric's unit."""

    reference: Outputs
    part: Part
    metric: Metric

    def __call__(self, outputs: Outputs) -> float:
        """Return the drop of outputs of the whole part."""
        before, after = (
            judge_outputs(one, self.reference, self.part, self.metric) for one in (self.reference, outputs)
        )
        return self.metric.drop(before, after)

    def at(self, positions: Sequence[int]) -> "Drop":
        """Return the same on the samples at these positions of the part."""
        chosen = list(positions)
        reference = {name: array[chosen] for name, array in self.reference.items()}
        return Drop(reference, replace(self.part, indices=self.part.indices[chosen]), self.metric)


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
