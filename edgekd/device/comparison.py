r"""Which of several is faster, on a machine whose speed wanders?

```
a a a | b b b | b b b | a a a | b b b | a a a ...     a block is some 10 or 30 ms of single timed calls
 \____ pair ____/   \____ pair ____/   \__ pair ...     in every round each candidate has one block, in random order
```
What slows the machine down for longer than a round slows all candidates alike, so the ratio within a round stays. Each
round gives one ratio of block medians; the result is their median with its 95 % bootstrap interval. Fewer than six rounds, or
an interval that is not clear of 1 by 2 %, is "not distinguishable": where two copies of one model come to lie in memory
alone moves their times by up to 1.5 % (measured with ONNX Runtime), which no number of rounds averages out.
"""

import random
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from .arrays import Array
from .latency import Clock, Latency, Warmup, garbage_collection_off, warm_up

Verdict = Literal["faster", "slower", "not distinguishable"]

MOST_CALLS_A_BLOCK = 10_000
FEWEST_ROUNDS = 6
_RESAMPLES = 2000
SMALLEST_DIFFERENCE = 0.02


@dataclass(frozen=True)
class Comparison:
    """Candidate against baseline.

    `speedup` is the baseline's time divided by the candidate's, so above 1 the candidate is faster; `low` and `high`
    are the ends of its 95 % interval, None below six blocks. The verdict is about the candidate.
    """

    speedup: float
    speedup_low: float | None
    speedup_high: float | None
    blocks: int
    verdict: Verdict
    baseline: Latency
    candidate: Latency

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Interleaved:
    """One interleaved session: each candidate's blocks of call times in ms, equally many, in the order measured.

    `cpu_ms` is the time that the process's threads computed in a call, one value a block.
    """

    blocks_ms: dict[str, list[Array]]
    warmups: dict[str, Warmup]
    cpu_ms: dict[str, list[float]]

    def latency(self, name: str) -> Latency:
        """Summarize one candidate's calls."""
        warmup = self.warmups[name]
        cpu_ms = float(np.median(self.cpu_ms[name])) or None  # 0 where that clock ticks too slowly
        return Latency.from_samples(np.concatenate(self.blocks_ms[name]), warmup.calls, warmup.steady, cpu_ms)

    def comparison(self, baseline: str, candidate: str) -> Comparison:
        """Compare two of the candidates."""
        speedup, low, high = paired_speedup(self.blocks_ms[baseline], self.blocks_ms[candidate])
        return Comparison(
            speedup=speedup,
            speedup_low=low,
            speedup_high=high,
            blocks=len(self.blocks_ms[baseline]),
            verdict=verdict_of(low, high),
            baseline=self.latency(baseline),
            candidate=self.latency(candidate),
        )


def interleave(
    runs: Mapping[str, Callable[[], object]],
    *,
    blocks: int = 30,
    block_ms: float = 30.0,
    duration_s: float = 60.0,
    warmup_s: float = 5.0,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    cpu_clock: Clock = time.process_time_ns,
) -> Interleaved:
    """Time several calls in one session.

    Every block starts with one call that is not timed: it brings back into the caches what the others pushed out.

    Args:
        runs: The calls by name.
        blocks: For each of them.
        block_ms: About how long a block takes, in ms; a call that takes longer is a block of its own.
        duration_s: No new round begins after this many seconds; there is at least one.
        warmup_s: Longest warm-up of each, in seconds.
        seed: Of the random order.
        clock: Nanoseconds; replaced in tests.
        cpu_clock: Nanoseconds that the process has computed; replaced in tests.
    """
    order = list(runs)
    shuffle = random.Random(seed).shuffle
    samples: dict[str, list[Array]] = {name: [] for name in runs}
    computed: dict[str, list[float]] = {name: [] for name in runs}
    with garbage_collection_off():
        warmups = {name: warm_up(run, limit_s=warmup_s, clock=clock) for name, run in runs.items()}
        calls = {name: _calls_a_block(warmup.median_ms, block_ms) for name, warmup in warmups.items()}
        began = clock()
        for _ in range(max(1, blocks)):
            shuffle(order)
            for name in order:
                times_ms, cpu_ms = _timed(runs[name], calls[name], clock, cpu_clock)
                samples[name].append(times_ms)
                computed[name].append(cpu_ms)
            if clock() - began >= duration_s * 1e9:
                break
    return Interleaved(samples, warmups, computed)


def paired_speedup(baseline: Sequence[Array], candidate: Sequence[Array]) -> tuple[float, float | None, float | None]:
    """Return the median over the rounds of the baseline's block median divided by the candidate's, and its interval.

    The 95 % interval is the percentile bootstrap of that median: rounds are drawn with replacement 2,000 times, the same
    way every time. It is None below six rounds.
    """
    if len(baseline) != len(candidate) or not baseline:
        raise ValueError(f"blocks come in pairs, not {len(baseline)} and {len(candidate)}")
    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(baseline, candidate, strict=True)])
    if len(ratios) < FEWEST_ROUNDS:
        return float(np.median(ratios)), None, None
    drawn = np.random.default_rng(0).choice(ratios, (_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def verdict_of(
    speedup_low: float | None, speedup_high: float | None, smallest_difference: float = SMALLEST_DIFFERENCE
) -> Verdict:
    """Return what an interval of the speed-up says about the candidate.

    Args:
        speedup_low: Lower end, None where it is not known.
        speedup_high: Upper end, None where it is not known.
        smallest_difference: How clear of 1 the interval must be, as a fraction.
    """
    if speedup_low is not None and speedup_low > 1.0 + smallest_difference:
        return "faster"
    if speedup_high is not None and speedup_high < 1.0 / (1.0 + smallest_difference):
        return "slower"
    return "not distinguishable"


def _calls_a_block(median_ms: float, block_ms: float) -> int:
    return int(np.clip(round(block_ms / max(median_ms, 1e-6)), 1, MOST_CALLS_A_BLOCK))


def _timed(run: Callable[[], object], calls: int, clock: Clock, cpu_clock: Clock) -> tuple[Array, float]:
    """Return the time of every call of a block, and the CPU time of one on average, both in ms."""
    run()
    samples = array("q")
    computed_before = cpu_clock()
    for _ in range(calls):
        started = clock()
        run()
        samples.append(clock() - started)
    return np.asarray(samples) / 1e6, (cpu_clock() - computed_before) / 1e6 / calls
