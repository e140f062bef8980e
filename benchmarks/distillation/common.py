"""What the distillation benchmarks share: data, teacher, a context, paired rounds, and how results are written.

Times are paired, so that what disturbs the machine falls on both arms. Steps alternate: two trainings run side by side, a
step of one, then a step of the other, never both at once (`in_turns`). Epochs alternate by rounds, their order turned from
round to round (`rounds`). The first steps of a training warm up and are not timed.
"""

import argparse
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekd.context import Context
from edgekd.data import Part, load_dataset
from edgekd.data.calibration_sets import set_signature
from edgekd.device.comparison import paired_speedup
from edgekd.device.machine import read_machine, warnings
from edgekd.metrics import METRICS
from edgekd.models.source import Opening, open_model
from edgekd.verbs.methods.experiments import training_context

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "examples" / "fashion_mnist"


def arguments(description: str | None, **numbers: int) -> argparse.Namespace:
    """Read the command line: whole numbers with these defaults, and the threads of torch, which are set."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {**numbers, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for warning in warnings(read_machine()):
        print(f"warning: {warning}", file=sys.stderr)
    return chosen


def images(count: int) -> tuple[Part, Part]:
    """Return the first training images of the shipped Fashion-MNIST, and its 10,000 test images."""
    signature = set_signature("fashion-mnist")
    data = load_dataset("fashion-mnist", signature)
    assert data.held_out is not None
    return (
        Part(data, np.flatnonzero(~data.held_out)[:count], signature),
        Part(data, np.flatnonzero(data.held_out), signature),
    )


def example_network(name: str = "model.pt") -> nn.Module:
    """Return a network of the example: ResNet-8 with widths 32, 64, 128, or of `teacher.pt` 64, 128, 256."""
    return open_model(EXAMPLE / name, Opening()).state.torch.module.eval()


class Clock:
    """A progress that notes when every step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    @contextmanager
    def __call__(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Open no bar; the block's steps are noted."""
        yield lambda steps: self.end_step()

    def end_step(self) -> None:
        """Note that a step ended."""
        self.ends.append(time.perf_counter())


class Turns(Clock):
    """A clock that stands while the other arm makes its step: its training runs in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.other = self
        self.steps_ms: list[float] = []
        self._go = threading.Semaphore(0)
        self._since = 0.0
        self._done = False

    def end_step(self) -> None:
        """Note the time of a step, everything since the last one in it, and let the other arm make one."""
        self.steps_ms.append((time.perf_counter() - self._since) * 1e3)
        self._pass_on()
        self._wait()

    def run(self, arm: "Arm", threads: int) -> None:
        """Train, a step whenever it is this arm's turn."""
        torch.set_num_threads(threads)  # new threads of Python have as many as there are cores
        self._wait()
        try:
            arm(self)
        finally:
            self._done = True
            self._pass_on()

    def begin(self) -> None:
        """Make this arm the first."""
        self._go.release()

    def _pass_on(self) -> None:
        self.other._go.release()

    def _wait(self) -> None:
        if not self.other._done:
            self._go.acquire()
        self._since = time.perf_counter()


Arm = Callable[[Clock], None]


def in_turns(first: Arm, second: Arm, warm_up: int) -> tuple[float, float]:
    """Run two trainings, a step of each in turn; return the mean time of their steps behind the warm-up in ms."""
    one, two = Turns(), Turns()
    one.other, two.other = two, one
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(clock.run, arm, torch.get_num_threads()) for clock, arm in ((one, first), (two, second))]
        one.begin()
        for each in running:
            each.result()
    return float(np.mean(one.steps_ms[warm_up:])), float(np.mean(two.steps_ms[warm_up:]))


def context(part: Part, seed: int, clock: Clock | None = None) -> Context:
    """Return the context of a training on the CPU."""
    threads = torch.get_num_threads()
    return training_context(part, part, METRICS["accuracy"], seed, threads=threads, progress=clock or Clock())


def rounds(arms: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Run every arm once a round, the order turned each time; return what they say, a value a round."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(count):
        for name in arms if number % 2 == 0 else reversed(arms):
            found[name].append(arms[name]())
        print(
            f"round {number + 1}/{count}: " + ", ".join(f"{name} {ms[-1]:.2f}" for name, ms in found.items()),
            flush=True,
        )
    return found


def ratio(of: Sequence[float], to: Sequence[float]) -> dict[str, float | None]:
    """Return the median of the rounds' ratios with its 95 % bootstrap interval (None below six rounds)."""
    middle, low, high = paired_speedup([np.array([value]) for value in of], [np.array([value]) for value in to])
    return {"ratio": middle, "low": low, "high": high}


def in_words(found: Mapping[str, float | None]) -> str:
    """Return a ratio with its interval."""
    if found["low"] is None:
        return f"{found['ratio']:.3f}"
    return f"{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def write(name: str, title: str, lines: Sequence[str], results: Mapping[str, Any], *, timed: bool = False) -> None:
    """Write this benchmark's results into results.json, and results.md anew from all that are there.

    Where it is `timed`, what makes times on this machine less trustworthy is written beside them.
    """
    machine = read_machine()
    where = (
        f"{machine.cpu_model} ({machine.cores} cores, {torch.get_num_threads()} thread(s) used), torch {torch.__version__}, "
        f"Python {platform.python_version()}, {machine.time_utc[:10]}"
    )
    path = HERE / "results.json"
    everything = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    busy = warnings(machine) if timed else []
    everything[name] = {
        "title": title, "where": where, "warnings": busy, "lines": list(lines), "machine": machine.to_dict(), **results,
    }  # fmt: skip
    path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    page = ["# Distillation: the engine's price, and what methods save\n"]
    for script, one in sorted(everything.items()):
        page += [
            f"\n## {one['title']}\n",
            f"\nMade by `python benchmarks/distillation/{script}.py` on {one['where']}.\n\n",
        ]
        page += [f"{line}\n" for line in one["lines"]]
        page += [f"\nMeasured in a state that is not to be trusted: {warning}.\n" for warning in one["warnings"]]
    (HERE / "results.md").write_text("".join(page), encoding="utf-8")
    print("\n".join(lines))


def compare_steps(name: str, title: str, made: Callable[[str], Mapping[str, Arm]], count: int, warm_up: int) -> None:
    """Time two arms, the second against the first, in float32 and bfloat16, and write the results.

    `made(precision)` gives the arms by name; each trains once and tells its clock of every step.
    """
    lines: list[str] = []
    results: dict[str, Any] = {}
    for precision in ("float32", "bfloat16"):
        (base, first), (other, second) = made(precision).items()
        base_ms, other_ms = [], []
        for number in range(count):
            arms = (first, second) if number % 2 == 0 else (second, first)
            times = in_turns(*arms, warm_up)
            for kept, ms in zip((base_ms, other_ms), times if number % 2 == 0 else times[::-1], strict=True):
                kept.append(ms)
            print(
                f"{precision}, {number + 1}/{count}: {base} {base_ms[-1]:.2f}, {other} {other_ms[-1]:.2f}", flush=True
            )
        if not lines:
            lines = [f"| precision | {base}, ms a step | {other} | {other} / {base} (95 %) |", "|---|---|---|---|"]
        against = ratio(other_ms, base_ms)
        results[precision] = {"ms": {base: base_ms, other: other_ms}, f"{other} / {base}": against}
        lines.append(f"| {precision} | {np.median(base_ms):.2f} | {np.median(other_ms):.2f} | {in_words(against)} |")
    write(name, title, lines, results, timed=True)


def cut(part: Part, count: int) -> Part:
    """Return the first samples of a part."""
    return replace(part, indices=part.indices[:count])
