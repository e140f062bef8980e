"""The profiler: how long one call takes, once it is warm, and how sure that is.

```
|-- warm-up: blocks of 50 ms until four medians in a row lie within 3 % --|-- timed calls, one by one --|
                                                                          until the median's 95 % interval is
                                                                          within 1 % (and 130 calls, 1 s), or time is up
```
Garbage collection is off from the first warm-up call to the last timed one. Times are in milliseconds of wall time, `cpu_ms`
in those that the process's threads computed: other work on the machine adds to the first, hardly to the second.
"""

import gc
import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .arrays import Array
from .intervals import mean_interval, quantile_interval

Clock = Callable[[], int]

SAMPLES_FOR_P90 = 64
SAMPLES_FOR_P95 = 130
SAMPLES_FOR_P99 = 662
MOST_SAMPLES = 200_000  # keeps the profiler's own memory below 4 MB

_WARMUP_BLOCK_NS = 50_000_000
_WARMUP_BLOCKS = 4
_WARMUP_SPREAD = 0.03
_SHORTEST_WARM_UP_S, _LONGEST_WARM_UP_S = 0.2, 5.0
_SHORTEST_NS = 1_000_000_000
_SAMPLES_FOR_DRIFT = 40


@dataclass(frozen=True)
class Latency:
    """How long one call takes, in milliseconds; a percentile that the samples do not suffice for is None.

    `low` and `high` are the ends of a 95 % interval: by order statistics for a percentile, by the bootstrap for the mean.
    `cpu_ms` is the median time that all threads of the process together computed in a call. `warmup_calls` were made and not counted; `steady` says that they
    ended because the times had settled. `drift_percent` is how much slower the last quarter's median is than the first
    one's: a board that heats up drifts.
    """

    n: int
    min_ms: float
    mean_ms: float
    mean_low_ms: float | None
    mean_high_ms: float | None
    max_ms: float
    std_ms: float | None
    p50_ms: float
    p50_low_ms: float | None
    p50_high_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p95_low_ms: float | None
    p95_high_ms: float | None
    p99_ms: float | None
    cpu_ms: float | None
    drift_percent: float | None
    warmup_calls: int
    steady: bool

    @classmethod
    def from_samples(
        cls,
        samples_ms: Sequence[float] | Array,
        warmup_calls: int = 0,
        steady: bool = False,
        cpu_ms: float | None = None,
    ) -> "Latency":
        """Summarize the times of single calls, in the order in which they were measured."""
        samples = np.asarray(samples_ms, dtype=np.float64)
        if samples.ndim != 1 or samples.size == 0:
            raise ValueError("a latency needs at least one sample")
        n = samples.size
        p50_low, p50_high = quantile_interval(samples, 0.50)
        mean_low, mean_high = mean_interval(samples)
        p95_low, p95_high = quantile_interval(samples, 0.95) if n >= SAMPLES_FOR_P95 else (None, None)
        quarter = n // 4
        drift = None
        if n >= _SAMPLES_FOR_DRIFT:
            drift = float(np.median(samples[-quarter:]) / np.median(samples[:quarter]) - 1.0) * 100.0
        return cls(
            n=n,
            min_ms=float(samples.min()),
            mean_ms=float(samples.mean()),
            mean_low_ms=mean_low,
            mean_high_ms=mean_high,
            max_ms=float(samples.max()),
            std_ms=float(samples.std(ddof=1)) if n > 1 else None,
            p50_ms=float(np.median(samples)),
            p50_low_ms=p50_low,
            p50_high_ms=p50_high,
            p90_ms=float(np.quantile(samples, 0.90)) if n >= SAMPLES_FOR_P90 else None,
            p95_ms=float(np.quantile(samples, 0.95)) if n >= SAMPLES_FOR_P95 else None,
            p95_low_ms=p95_low,
            p95_high_ms=p95_high,
            p99_ms=float(np.quantile(samples, 0.99)) if n >= SAMPLES_FOR_P99 else None,
            cpu_ms=cpu_ms,
            drift_percent=drift,
            warmup_calls=warmup_calls,
            steady=steady,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Warmup:
    """How a warm-up ended: calls made, whether the times settled, and the median of the last block in ms."""

    calls: int
    steady: bool
    median_ms: float


def measure(
    run: Callable[[], object],
    *,
    duration_s: float = 10.0,
    warmup_s: float | None = None,
    precision: float = 0.01,
    clock: Clock = time.perf_counter_ns,
    cpu_clock: Clock = time.process_time_ns,
) -> Latency:
    """Warm up, then time single calls.

    It stops early, after at least 1 s and 130 calls, when half of the median's 95 % interval is at most `precision` of
    the median. The number of calls grows by half between two looks at the interval. Where more than 200 000 calls fit
    into the duration, only every second, third, ... one is timed.

    Args:
        run: One call; what it returns is ignored.
        duration_s: Longest time for the timed calls, in seconds; at least one call is made.
        warmup_s: Longest time for the warm-up, in seconds; `longest_warm_up_s` where it is None.
        precision: As a fraction of the median.
        clock: Nanoseconds; replaced in tests.
        cpu_clock: Nanoseconds that the process has computed; replaced in tests.
    """
    samples, computed = array("q"), array("q")
    with garbage_collection_off():
        warmup = warm_up(run, limit_s=longest_warm_up_s(duration_s) if warmup_s is None else warmup_s, clock=clock)
        began = clock()
        shortest = min(_SHORTEST_NS, duration_s * 1e9)
        next_look = SAMPLES_FOR_P95
        untimed = range(int(duration_s * 1e3 / max(warmup.median_ms, 1e-6) / MOST_SAMPLES))
        while True:
            computed_before = cpu_clock()
            started = clock()
            run()
            ended = clock()
            computed.append(cpu_clock() - computed_before)
            samples.append(ended - started)
            if ended - began >= duration_s * 1e9 or len(samples) >= MOST_SAMPLES:
                break
            for _ in untimed:
                run()
            if len(samples) >= next_look and ended - began >= shortest:
                if is_precise(np.asarray(samples), precision):
                    break
                next_look = math.ceil(1.5 * len(samples))
                run()  # the look has emptied the caches
    cpu_ms = float(np.median(computed)) / 1e6 or None  # 0 where that clock ticks too slowly
    return Latency.from_samples(np.asarray(samples) / 1e6, warmup.calls, warmup.steady, cpu_ms)


def longest_warm_up_s(duration_s: float) -> float:
    """Return how long the warm-up of so many seconds of timed calls may take: half of them, 0.2 to 5 s."""
    return float(np.clip(duration_s / 2, _SHORTEST_WARM_UP_S, _LONGEST_WARM_UP_S))


def warm_up(run: Callable[[], object], *, limit_s: float = 5.0, clock: Clock = time.perf_counter_ns) -> Warmup:
    """Call until four successive blocks of 50 ms (or one longer call) have medians within 3 %, or time is up."""
    medians: deque[float] = deque(maxlen=_WARMUP_BLOCKS)
    began = clock()
    calls = 0
    while True:
        block = timed_calls(run, _WARMUP_BLOCK_NS, clock, most=MOST_SAMPLES)
        calls += len(block)
        medians.append(float(np.median(block)))
        steady = len(medians) == _WARMUP_BLOCKS and max(medians) <= min(medians) * (1 + _WARMUP_SPREAD)
        if steady or clock() - began >= limit_s * 1e9:
            return Warmup(calls, steady, medians[-1] / 1e6)


def timed_calls(run: Callable[[], object], duration_ns: float, clock: Clock, most: float = math.inf) -> "array[int]":
    """Time single calls until so many nanoseconds have passed, or so many calls were made; return theirs in nanoseconds."""
    samples = array("q")
    began = clock()
    while True:
        started = clock()
        run()
        ended = clock()
        samples.append(ended - started)
        if ended - began >= duration_ns or len(samples) >= most:
            return samples


def is_precise(samples: Array, precision: float) -> bool:
    """Return whether half of the median's 95 % interval is at most `precision` of the median."""
    low, high = quantile_interval(samples, 0.5)
    return low is not None and high is not None and (high - low) / 2 <= precision * float(np.median(samples))


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Collect once, then keep the garbage collector from running inside."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
