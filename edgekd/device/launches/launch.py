"""One launch: what a process of its own measures of one model, or of two in turns.

Where a model's memory comes to lie moves its times by a percent or two, and stays for as long as the process lives. So a figure
takes several launches; and a model that takes its process along takes nothing else.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array, write_arrays
from ..comparison import Interleaved, interleave, paired_speedup
from ..energy import measure_energy
from ..errors import CheckFailed, DeviceError, figure_or_reason
from ..instructions import find_counter, instructions_of_a_call
from ..instructions.absent import AbsentCounter
from ..instructions.counter import InstructionCounter
from ..instructions.instruction_clock import InstructionClock
from ..latency import Latency, longest_warm_up_s
from ..machine import peak_memory_mib, read_machine
from ..runtimes.session import Session
from ..sensors import find_sensor
from .noise import noise_between, read_counters
from .opened import open_model
from .process import answer, counting_until, feeds_of, turn_of

TIMES = "times.npz"
_BLOCK_MS = 10.0
_EMULATED = "this processor is emulated, where time is not that of the board"
_CLOCK = "this machine's clock counts instructions, so it tells no time"


def main(folder: str) -> None:
    """Do what the job in the folder asks for, and write `times.npz` there beside the result."""

    def measure(job: dict[str, Any], place: Path) -> dict[str, Any]:
        result, times = measure_launch(job, place)
        write_arrays(place / TIMES, times)
        return result

    answer(folder, measure)


def measure_launch(job: Mapping[str, Any], place: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the figures of one launch, and the times of all calls in ms by model.

    A figure that cannot be obtained is None, and `<figure>_absent` says why. With a `sensor` only energy is measured, for it
    takes rests between the calls.
    """
    until = counting_until(job)
    machine, counter = read_machine(), find_counter(job["counter"])
    sessions: dict[str, Session] = {}
    memory_mib: dict[str, float | None] = {}
    feeds: dict[str, dict[str, Array]] = {}
    calls: dict[str, Callable[[], object]] = {}
    for role, model in job["models"].items():
        turn_of(role, place)
        session, feeds[role] = open_model(model, job["threads"]).session, feeds_of(role, place)
        calls[role] = partial(session.run, feeds[role])
        for _ in range(2):
            calls[role]()
        # of the second model it would be that of both, and under an emulator that of the emulator
        memory_mib[role] = None if sessions or machine.emulated else peak_memory_mib()
        sessions[role] = session
    found: dict[str, dict[str, Any]] = {
        role: {"session": session.describe(), "memory_mib": memory_mib[role]} for role, session in sessions.items()
    }
    timeless = _CLOCK if isinstance(counter, InstructionClock) else _EMULATED if machine.emulated else None
    times: dict[str, Array] = {}
    ratios: dict[str, float] = {}
    noise = None
    if job["sensor"] is not None:
        for role, call in calls.items():
            turn_of(role, place)
            found[role] |= _energy(call, job["sensor"], job["duration_s"], timeless)
    else:
        if timeless is None:
            turn_of("", place)
            before = read_counters()
            warmup_s = longest_warm_up_s(job["duration_s"])
            timed = interleave(
                calls, blocks=100_000, block_ms=_BLOCK_MS, duration_s=job["duration_s"], warmup_s=warmup_s, seed=job["seed"]
            )  # fmt: skip
            noise = noise_between(before, read_counters()).to_dict()
            times = {role: np.concatenate(blocks) for role, blocks in timed.blocks_ms.items()}
            ratios = _ratios(timed)
        for left, (role, call) in zip(range(len(calls), 0, -1), calls.items(), strict=True):
            turn_of(role, place)
            latency: Latency | None = timed.latency(role) if timeless is None else None
            found[role] |= {"latency": latency.to_dict() if latency else None, "latency_absent": timeless}
            limit_s = (until - time.monotonic()) / left
            found[role] |= _instructions(call, job["models"][role], feeds[role], counter, job["threads"], limit_s)
    return {"models": found, "ratios": ratios, "noise": noise, "machine": machine.to_dict()}, times


def _ratios(timed: Interleaved) -> dict[str, float]:
    """Return how many times as long the candidate takes as the baseline, by figure; nothing without a baseline.

    Minimum, median and CPU time are compared round by round: on a busy machine not every block, nor even every launch, meets the
    moment at which the processor is fastest.
    """
    if len(timed.blocks_ms) == 1:
        return {}
    blocks = [timed.blocks_ms[role] for role in ("candidate", "baseline")]
    new, old = (np.concatenate(one) for one in blocks)
    percentiles = {f"latency-p{p}": float(np.percentile(new, p) / np.percentile(old, p)) for p in (90, 95, 99)}
    cpu_new, cpu_old = (np.array(timed.cpu_ms[role]) for role in ("candidate", "baseline"))
    ratios = {
        "latency-min": float(np.median([np.min(a) / np.min(b) for a, b in zip(*blocks, strict=True)])),
        "latency-p50": 1 / paired_speedup(timed.blocks_ms["baseline"], timed.blocks_ms["candidate"])[0],
        **percentiles,
    }
    if cpu_old.min() > 0:  # 0 where that clock ticks too slowly
        ratios["cpu-time"] = float(np.median(cpu_new / cpu_old))
    return ratios


def _instructions(
    call: Callable[[], object],
    model: Mapping[str, Any],
    feeds: dict[str, Array],
    counter: InstructionCounter,
    threads: int,
    limit_s: float,
) -> dict[str, Any]:
    def count() -> dict[str, Any]:
        if isinstance(counter, AbsentCounter):
            raise CheckFailed(counter.reason)
        return instructions_of_a_call(counter, call, model["runtime"], Path(model["file"]), feeds, threads, limit_s)

    return figure_or_reason("instructions", count)


def _energy(call: Callable[[], object], sensor: str, duration_s: float, timeless: str | None) -> dict[str, Any]:
    def measure() -> dict[str, Any]:
        if timeless is not None:
            raise CheckFailed(timeless)
        return measure_energy(call, find_sensor(sensor), duration_s=duration_s, idle_s=duration_s / 2).to_dict()

    return figure_or_reason("energy", measure, DeviceError)
