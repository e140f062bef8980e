"""One check: a figure against its limit, or against the baseline; and what rounds of measurement say together.

```
 budget       value   |----x----|  limit            pass: the interval lies below the limit
 regression   ratio   1 ---|--x--|-- 1 + threshold  pass: the ratio is within, and twice the threshold is out of the question
```
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..launches.figures import Figure

Outcome = Literal["pass", "fail", "not distinguishable", "too noisy", "not measured"]

PASS: Outcome = "pass"
FAIL: Outcome = "fail"
UNCLEAR: Outcome = "not distinguishable"
NOISY: Outcome = "too noisy"
ABSENT: Outcome = "not measured"
LONGER = "measure for longer (--duration) or in more processes (--launches)"


@dataclass(frozen=True)
class Judged:
    """What a check says of a figure: its outcome, and why, where it is no pass; of one `round` of several, None for all of them."""

    outcome: Outcome
    figure: Figure
    reason: str | None = None
    round: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"outcome": self.outcome, **self.figure.to_dict(), "reason": self.reason}


def judge_limit(figure: Figure, limit: float, disturbances: Sequence[str] = ()) -> Judged:
    """Hold a figure against a limit in its own unit.

    Args:
        figure: It passes where it is not above the limit.
        limit: In the figure's unit.
        disturbances: What may have made the figure too high; then being above the limit proves nothing.
    """
    if figure.value is None:
        return Judged(ABSENT, figure, figure.reason)
    if figure.low is not None and figure.high is not None and figure.low <= limit < figure.high:
        return Judged(UNCLEAR, figure, f"the limit lies within the figure's interval: {LONGER}")
    if figure.value <= limit:
        return Judged(PASS, figure)
    if disturbances:
        return Judged(NOISY, figure, f"above the limit, but {'; '.join(disturbances)}")
    return Judged(FAIL, figure)


def judge_ratio(
    ratio: Figure, threshold_percent: float, disturbances: Sequence[str] = (), advice: str = LONGER
) -> Judged:
    """Hold the ratio to the baseline against 1 plus the threshold.

    Args:
        ratio: The candidate's figure divided by the baseline's.
        threshold_percent: How much above 1 it may be.
        disturbances: What may have made the ratio too high; then being above the threshold proves nothing.
        advice: What to do where it cannot be told.
    """
    threshold = threshold_percent / 100
    if ratio.value is None:
        return Judged(ABSENT, ratio, ratio.reason)
    if ratio.value > 1 + threshold:
        if disturbances:
            return Judged(NOISY, ratio, f"above the threshold, but {'; '.join(disturbances)}: {advice}")
        if ratio.low is not None and ratio.low <= 1:
            return Judged(UNCLEAR, ratio, f"above the threshold, but its interval holds 1: {advice}")
        return Judged(FAIL, ratio)
    if ratio.high is not None and ratio.high > 1 + 2 * threshold:
        return Judged(NOISY, ratio, f"twice the threshold lies within the ratio's interval: {advice}")
    return Judged(PASS, ratio)


def decide(rounds: Sequence[Judged], together: Judged) -> Judged:
    """Return what the rounds say together.

    Other work only adds to a figure, so one round that passes is enough; else all rounds are judged as one measurement.

    Args:
        rounds: What each round says by itself.
        together: What the evidence of all rounds says as one.
    """
    passed = [number for number, one in enumerate(rounds) if one.outcome == PASS]
    return replace(rounds[passed[-1]], round=passed[-1]) if passed else together
