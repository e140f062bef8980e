import numpy as np
import pytest

from edgekd.device.comparison import Interleaved, interleave, paired_speedup, verdict_of
from edgekd.device.latency import Warmup

from .fake_clock import FakeClock


def wandering_machine(clock: FakeClock, median_ms: float, seed: int):  # type: ignore[no-untyped-def]
    """Return a call on a machine whose speed swings by 40 % within seconds, with 5 % noise."""
    generator = np.random.default_rng(seed)

    def run() -> None:
        swing = 1.0 + 0.2 * np.sin(clock() / 1e9)
        clock.pass_ms(median_ms * swing * float(np.exp(0.05 * generator.normal())))

    return run


@pytest.mark.parametrize(
    ("candidate_ms", "verdict"),
    [(0.96, "faster"), (1.04, "slower"), (0.5, "faster"), (1.0, "not distinguishable"), (0.99, "not distinguishable")],
)
def test_small_difference_is_found_on_a_wandering_machine(candidate_ms: float, verdict: str) -> None:
    clock = FakeClock()
    runs = {
        "baseline": wandering_machine(clock, 1.0, seed=1),
        "candidate": wandering_machine(clock, candidate_ms, seed=2),
    }
    result = interleave(runs, blocks=60, clock=clock).comparison("baseline", "candidate")
    assert result.verdict == verdict
    assert result.speedup == pytest.approx(1 / candidate_ms, rel=0.02)
    assert result.speedup_low is not None and result.speedup_high is not None
    assert result.speedup_low <= 1 / candidate_ms * 1.01 and result.speedup_high >= 1 / candidate_ms * 0.99
    assert result.to_dict()["baseline"]["n"] == result.baseline.n > 60 * 20


def test_equal_candidates_are_rarely_told_apart() -> None:
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        baseline, candidate = (list(np.exp(0.1 * generator.normal(size=(20, 5)))) for _ in range(2))
        _, low, high = paired_speedup(baseline, candidate)
        wrong += verdict_of(low, high, smallest_difference=0.0) != "not distinguishable"
    assert wrong <= 0.08 * 300


def test_several_candidates_share_one_session() -> None:
    clock = FakeClock()
    order: list[str] = []

    def call(name: str, duration_ms: float):  # type: ignore[no-untyped-def]
        def run() -> None:
            order.append(name)
            clock.pass_ms(duration_ms)

        return run

    durations = {"a": 1.0, "b": 3.0, "c": 100.0}
    session = interleave({name: call(name, ms) for name, ms in durations.items()}, blocks=8, clock=clock, seed=3)
    assert {name: len(blocks) for name, blocks in session.blocks_ms.items()} == {"a": 8, "b": 8, "c": 8}
    assert {name: len(blocks[0]) for name, blocks in session.blocks_ms.items()} == {"a": 30, "b": 10, "c": 1}
    assert session.latency("b").p50_ms == 3.0 and session.latency("b").steady
    assert session.comparison("c", "a").speedup == 100.0 and session.comparison("c", "a").verdict == "faster"
    assert session.comparison("a", "b").verdict == "slower"
    again: list[str] = list(order)
    order.clear()
    clock = FakeClock()
    interleave({name: call(name, ms) for name, ms in durations.items()}, blocks=8, clock=clock, seed=3)
    assert order == again
    rounds = [name for name, before in zip(order, ["", *order], strict=False) if name != before]
    assert len({tuple(rounds[i : i + 3]) for i in range(0, len(rounds) - 3, 3)}) > 1, "the order is shuffled"


def test_time_limit_keeps_whole_rounds() -> None:
    clock = FakeClock()
    runs = {name: (lambda: clock.pass_ms(400.0)) for name in ("a", "b")}
    session = interleave(runs, blocks=30, duration_s=3.0, warmup_s=1.0, clock=clock)
    assert [len(blocks) for blocks in session.blocks_ms.values()] == [2, 2]
    assert session.comparison("a", "b").verdict == "not distinguishable"


def test_too_few_blocks_say_nothing() -> None:
    five, six = [np.array([2.0])] * 5, [np.array([2.0])] * 6
    assert paired_speedup(five, [block / 2 for block in five]) == (2.0, None, None)
    assert paired_speedup(six, [block / 2 for block in six]) == (2.0, 2.0, 2.0)
    assert verdict_of(None, None) == "not distinguishable"


def test_difference_that_memory_placement_alone_makes_is_no_difference() -> None:
    assert verdict_of(1.005, 1.019) == verdict_of(0.985, 0.995) == verdict_of(1.019, 1.03) == "not distinguishable"
    assert verdict_of(1.021, 1.03) == "faster" and verdict_of(0.97, 0.979) == "slower"


def test_blocks_must_be_paired() -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired_speedup([np.ones(1)], [])
    with pytest.raises(ValueError, match="pairs"):
        paired_speedup([], [])


def test_session_can_be_built_from_stored_samples() -> None:
    warmups = {name: Warmup(3, True, 1.0) for name in "ab"}
    blocks = {"a": [np.full(4, 2.0)] * 6, "b": [np.full(4, 1.0)] * 6}
    session = Interleaved(blocks, warmups, {"a": [1.8] * 6, "b": [0.9] * 6})
    assert session.comparison("a", "b").speedup == 2.0 and session.latency("a").n == 24
