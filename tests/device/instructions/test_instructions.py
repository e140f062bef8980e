"""Counters are those of this machine, or say why they are not; counts are taken from a clock that is known."""

from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.instructions import find_counter
from edgekd.device.instructions.absent import AbsentCounter
from edgekd.device.instructions.counter import InstructionCounter, count_instructions
from edgekd.device.instructions.instruction_clock import InstructionClock
from edgekd.device.instructions.perf_event import PerfEvent


class Ticks(InstructionCounter):
    name, how = "ticks", "measured"
    now = 0

    def read(self) -> int:
        return self.now


def test_a_call_s_count_is_the_median_after_warm_up() -> None:
    counter = Ticks()
    made = iter([*[5000] * 20, *[100] * 40, *[110] * 20, *[90] * 40])

    def run() -> None:
        counter.now += next(made)

    found = count_instructions(run, counter, calls=100)
    assert (found["per_call"], found["low"], found["high"], found["calls"]) == (100, 90, 100, 100)
    assert (found["counter"], found["how"]) == ("ticks", "measured")


def test_the_processor_counts_or_says_why_not() -> None:
    found = PerfEvent.find()
    if isinstance(found, str):
        assert "counter" in found
        assert isinstance(find_counter("auto"), AbsentCounter)
        with pytest.raises(DeviceError, match="no counter perf"):
            find_counter("perf")
        with pytest.raises(CheckFailed, match="not counted"):
            find_counter("auto").read()
        return
    small, large = (count_instructions(lambda n=n: sum(range(n)), found) for n in (1_000, 10_000))  # type: ignore[misc]
    assert 5 < large["per_call"] / small["per_call"] < 12


def test_only_a_machine_of_qemu_has_a_clock_that_counts(tmp_path: Path) -> None:
    assert "no machine of QEMU" in str(InstructionClock.find(tmp_path))
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"linux,dummy-virt\0")
    counter = InstructionClock.find(tmp_path)
    assert isinstance(counter, InstructionClock) and counter.read() < counter.read()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(DeviceError, match="known: auto, none, perf, callgrind, clock"):
        find_counter("abacus")
