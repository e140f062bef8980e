"""No test here looks at real time: calls and clock are replaced, or samples are synthetic."""

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgekd.device.latency import Latency, garbage_collection_off, is_precise, measure, warm_up

from .fake_clock import FakeClock


def cycle(*values_ms: float) -> Iterator[float]:
    while True:
        yield from values_ms


def noisy(median_ms: float, spread: float, seed: int = 0) -> Iterator[float]:
    generator = np.random.default_rng(seed)
    while True:
        yield median_ms * float(np.exp(generator.normal() * spread))


def settling(start_ms: float, end_ms: float, calls: int) -> Iterator[float]:
    for index in range(calls):
        yield start_ms + (end_ms - start_ms) * index / calls
    yield from cycle(end_ms)


def test_summary_of_known_samples() -> None:
    samples = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    latency = Latency.from_samples(samples, warmup_calls=7, steady=True)
    assert (latency.n, latency.min_ms, latency.max_ms, latency.mean_ms) == (1000, 1.0, 1000.0, 500.5)
    assert latency.p50_ms == 500.5 and latency.p90_ms == pytest.approx(900.1)
    assert latency.p95_ms == pytest.approx(950.05) and latency.p99_ms == pytest.approx(990.01)
    assert latency.p50_low_ms is not None and latency.p50_high_ms is not None
    assert latency.p50_low_ms < 500.5 < latency.p50_high_ms
    assert latency.p95_low_ms is not None and latency.p95_high_ms is not None
    assert latency.p95_low_ms < 950.05 < latency.p95_high_ms
    assert latency.std_ms == pytest.approx(288.8194)
    assert (latency.warmup_calls, latency.steady) == (7, True)
    assert latency.to_dict()["p50_ms"] == 500.5


@pytest.mark.parametrize(
    ("n", "missing"),
    [
        (
            1,
            {"std_ms", "mean_low_ms", "mean_high_ms", "p50_low_ms", "p50_high_ms"}
            | {"p90_ms", "p95_ms", "p95_low_ms", "p95_high_ms", "p99_ms", "drift"},
        ),
        (63, {"p90_ms", "p95_ms", "p95_low_ms", "p95_high_ms", "p99_ms"}),
        (64, {"p95_ms", "p95_low_ms", "p95_high_ms", "p99_ms"}),
        (129, {"p95_ms", "p95_low_ms", "p95_high_ms", "p99_ms"}),
        (130, {"p99_ms"}),
        (661, {"p99_ms"}),
        (662, set()),
    ],
)
def test_percentile_without_its_samples_is_absent(n: int, missing: set[str]) -> None:
    latency = Latency.from_samples(np.full(n, 2.0), cpu_ms=2.0).to_dict()
    absent = {name.replace("_percent", "") for name, value in latency.items() if value is None}
    assert absent == missing


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Latency.from_samples([])


def test_drift_is_seen() -> None:
    drift = Latency.from_samples(np.linspace(1.0, 1.5, 400)).drift_percent
    assert drift == pytest.approx(100 * (1.4375 / 1.0625 - 1), abs=0.5)


def test_measurement_stops_when_the_median_is_known() -> None:
    clock = FakeClock(noisy(2.0, 0.05))
    latency = measure(clock.run, duration_s=60.0, clock=clock)
    assert latency.steady
    assert latency.p50_ms == pytest.approx(2.0, rel=0.02)
    assert 500 <= latency.n < 2000  # at least 1 s, far from 60 s
    assert latency.p50_low_ms is not None and latency.p50_high_ms is not None
    assert (latency.p50_high_ms - latency.p50_low_ms) / 2 <= 0.01 * latency.p50_ms


def test_computing_time_is_apart_from_waiting_time() -> None:
    clock = FakeClock(cycle(3.0))
    computes = FakeClock()
    latency = measure(lambda: (clock.run(), computes.pass_ms(2.0)), duration_s=2.0, clock=clock, cpu_clock=computes)
    assert latency.p50_ms == 3.0 and latency.cpu_ms == 2.0
    assert measure(clock.run, duration_s=2.0, clock=clock, cpu_clock=lambda: 0).cpu_ms is None


def test_measurement_ends_with_the_time() -> None:
    clock = FakeClock(noisy(50.0, 0.5))
    latency = measure(clock.run, duration_s=3.0, warmup_s=1.0, clock=clock)
    assert not latency.steady and latency.n < 130 and latency.p95_ms is None
    assert latency.n * latency.mean_ms == pytest.approx(3000, rel=0.1)


def test_one_call_longer_than_the_time_is_measured_once() -> None:
    clock = FakeClock(cycle(5000.0))
    latency = measure(clock.run, duration_s=1.0, warmup_s=1.0, clock=clock)
    assert (latency.n, latency.p50_ms, latency.warmup_calls, latency.steady) == (1, 5000.0, 1, False)


def test_memory_of_the_profiler_is_bounded() -> None:
    clock = FakeClock(cycle(0.01, 0.02, 0.03))
    latency = measure(clock.run, duration_s=5.0, precision=-1.0, clock=clock)  # never precise enough
    assert 120_000 <= latency.n <= 200_000 and clock() >= 5e9, "every second call is timed, for the whole duration"


@pytest.mark.parametrize(
    ("times", "steady", "least"),
    [
        (lambda: cycle(10.0), True, 20),
        (lambda: settling(20.0, 10.0, 100), True, 80),
        (lambda: cycle(*[10.0] * 5, *[15.0] * 5), False, 100),
    ],
)
def test_warm_up_ends_when_the_times_settle(times: Callable[[], Iterator[float]], steady: bool, least: int) -> None:
    clock = FakeClock(times())
    warmup = warm_up(clock.run, limit_s=3.0, clock=clock)
    assert warmup.steady is steady and warmup.calls >= least
    assert clock() <= 3.2e9


def test_precision() -> None:
    samples = np.random.default_rng(0).normal(100.0, 5.0, size=2000)
    assert is_precise(samples, 0.01) and not is_precise(samples[:50], 0.001)
    assert not is_precise(samples[:3], 0.5)


def test_garbage_collection_is_off_and_comes_back() -> None:
    seen = []
    clock = FakeClock(cycle(100.0), on_call=lambda: seen.append(gc.isenabled()))
    measure(clock.run, duration_s=0.5, warmup_s=0.5, clock=clock)
    assert seen and not any(seen) and gc.isenabled()
    with pytest.raises(KeyError), garbage_collection_off():
        raise KeyError
    assert gc.isenabled()
