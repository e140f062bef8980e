"""Is the profiler right, and does it slow down what it measures? `taskset -c 1 python benchmarks/profiler/run.py`.

Each tool is a process of its own, one thread, the same file. Both run at the same time, but never at once: half a second the
one is stopped, half a second the other, so that what disturbs the machine falls on both. Where a model comes to lie in memory
moves the times of a whole process; so each pair is started several times. A pair gives one ratio of medians; shown is their median
with its 95 % bootstrap interval. OpenVINO's `benchmark_app` prints hundredths of a millisecond, so that it is held against networks
of several milliseconds. It prints what OpenVINO's own clock says of a call, which edgekd tells apart from the whole call.

What profiling adds is measured in one process, against a loop that only calls: the time of a call inside of the profiler's loop, which
goes on for so long that it looks at the interval twice, and with a power sensor read beside it, in blocks of a quarter of a second.
Both alternate with the bare loop.
"""

import argparse
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgekd.device.comparison import paired_speedup
from edgekd.device.errors import CheckFailed
from edgekd.device.latency import garbage_collection_off, measure
from edgekd.device.machine import read_machine, warnings
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.device.sensors.ina3221 import Ina3221
from edgekd.models.networks import MobileNetV2, ResNet8
from edgekd.models.networks.mobilenet_v1 import MobileNetV1
from edgekd.models.onnx_graph import at_batch
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.export.onnx_writer import write_onnx

HERE = Path(__file__).parent
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "mobilenet-v1, 224": (lambda: MobileNetV1(1.0, 1000), (3, 224, 224)),
    "mobilenet-v2, 224": (lambda: MobileNetV2(), (3, 224, 224)),
    "resnet-8, 28": (lambda: ResNet8(in_channels=1), (1, 28, 28)),
}
TURN_S = 0.5
BLOCK_S = 0.25
SHORTEST_S, CALLS = (
    1.5,
    200,
)  # the profiler looks at the interval after 1 s and 130 calls, and again after half as many more
LARGE = ("mobilenet-v1, 224", "mobilenet-v2, 224")
CHIP = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


def write(name: str, folder: Path) -> Path:
    """Write a network with random weights as ONNX, at batch 1: OpenVINO's tool would fix a free batch, and then run another network."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    path = folder / f"{re.sub('[^a-z0-9]+', '-', name)}.onnx"
    signature = Signature(inputs=(TensorSpec(name="image", shape=("batch", *shape), dtype="float32"),))
    write_onnx(build().eval(), signature, path)
    onnx.save(at_batch(onnx.load(str(path)), 1), str(path))
    return path


def edgekd(path: Path, runtime: str, seconds: float) -> list[str]:
    """Return the command line of the profiler."""
    return [sys.executable, str(HERE / "profiled.py"), str(path), runtime, str(seconds)]


def bare_loop(path: Path, seconds: float) -> list[str]:
    """Return the command line of a loop around ONNX Runtime."""
    return [sys.executable, str(HERE / "bare_loop.py"), str(path), str(seconds)]


def benchmark_app(path: Path, seconds: float, shape: Sequence[int]) -> list[str]:
    """Return the command line of OpenVINO's tool, with the settings that edgekd opens a session with; it would make an image of bytes."""
    command = ["benchmark_app", "-m", str(path), "-d", "CPU", "-hint", "none", "-api", "sync", "-nthreads", "1"]
    command += ["-nstreams", "1", "-infer_precision", "f32", "-ip", "f32", "-shape", str([1, *shape])]
    return [*command, "-t", f"{seconds:g}"]


def median_of(said: str) -> float:
    """Return the median in ms that a tool printed."""
    found = re.search(r"Median:\s+([\d.]+) ms", said)
    return float(found[1] if found else said)


def in_turns(*commands: list[str]) -> list[str]:
    """Run two processes, of which one is stopped at any time; return what they wrote."""
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    for one in running[1:]:
        one.send_signal(signal.SIGSTOP)
    said: list[str] = [""] * len(running)
    while any(one.poll() is None for one in running):
        for index, one in enumerate(running):
            if one.poll() is None:
                one.send_signal(signal.SIGCONT)
                time.sleep(TURN_S)
                if all(other.poll() is not None for other in running if other is not one):
                    said[index] += one.communicate()[0]
                elif one.poll() is None:
                    one.send_signal(signal.SIGSTOP)
    return [
        text + (one.stdout.read() if one.stdout and not one.stdout.closed else "")
        for text, one in zip(said, running, strict=True)
    ]


def agreement(one: list[str], other: list[str], pairs: int) -> dict[str, Any]:
    """Return the first tool's median divided by the second's, over several pairs of processes."""
    times = []
    for number in range(pairs):
        turned = (one, other) if number % 2 else (other, one)
        medians = [median_of(said) for said in in_turns(*turned)]
        times.append(medians if number % 2 else medians[::-1])
    return summarized([pair[0] for pair in times], [pair[1] for pair in times])


def summarized(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Return the median of the ratios with its interval."""
    ratio, low, high = paired_speedup(*([np.array([time]) for time in arm] for arm in (one, other)))
    return {
        "ratio": ratio,
        "low": low,
        "high": high,
        "rounds": len(one),
        "edgekd": float(np.median(one)),
        "other": float(np.median(other)),
    }


def ratios(one: Callable[[], float], other: Callable[[], float], rounds: int) -> dict[str, Any]:
    """Return the first's time divided by the second's, over rounds of both in turned order."""
    times: list[list[float]] = [[], []]
    for number in range(rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            times[index].append((one, other)[index]())
    return summarized(*times)


def overhead(session: Session, feeds: dict[str, Any], rounds: int, sensor: Ina3221) -> dict[str, Any]:
    """Return the time of a call inside of the profiler, and beside a sensor, divided by that of a call in a bare loop."""
    span = [0.0, 0.0, 0]

    def run() -> None:
        if span[2] == 0:
            span[0] = time.perf_counter()
        session.run(feeds)
        span[1], span[2] = time.perf_counter(), span[2] + 1

    def plainly(seconds: float = BLOCK_S) -> None:
        with garbage_collection_off():
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                for _ in range(10):
                    run()

    def profiled() -> None:
        measure(run, duration_s=looked_at_s, warmup_s=0.01, precision=-1.0)

    def sensed() -> None:
        sensor.begin()
        plainly()
        with contextlib.suppress(
            CheckFailed
        ):  # it stalled where other work took the core: what counts here is the time
            sensor.end()

    def per_call(arm: Callable[[], None]) -> float:
        span[:] = [0.0, 0.0, 0]
        arm()
        return (span[1] - span[0]) / (span[2] - 1)

    looked_at_s = max(SHORTEST_S, CALLS * per_call(plainly))
    return {
        "profiler": ratios(lambda: per_call(profiled), lambda: per_call(lambda: plainly(looked_at_s)), rounds),
        "sensor": ratios(lambda: per_call(sensed), lambda: per_call(plainly), 4 * rounds),
    }


def power_sensor(root: Path) -> Ina3221:
    """Return a Jetson's sensor on files that do not change, read as often as the real one."""
    folder = root / CHIP
    folder.mkdir(parents=True)
    for number, label in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 1):
        for name, text in ((f"in{number}_label", label), (f"in{number}_input", "5000"), (f"curr{number}_input", "900")):
            (folder / name).write_text(f"{text}\n")
    sensor = Ina3221.find(root)
    assert isinstance(sensor, Ina3221)
    return sensor


def main() -> None:
    """Measure and write `results.json` and `results.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="of processes")
    parser.add_argument(
        "--rounds", type=int, default=10, help="of the profiler in one process; four times as many of a sensor"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="of a pair, of which each tool has half")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    found: dict[str, Any] = {"machine": machine.to_dict(), "agreement": {}, "overhead": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network, (_, shape) in NETWORKS.items():
            path = write(network, folder)
            print(network, file=sys.stderr)
            found["agreement"][f"bare loop, {network}"] = agreement(
                edgekd(path, "onnxruntime", chosen.seconds), bare_loop(path, chosen.seconds), chosen.pairs
            )
            if network in LARGE:
                found["agreement"][f"benchmark_app, {network}"] = agreement(
                    edgekd(path, "openvino", chosen.seconds), benchmark_app(path, chosen.seconds, shape), chosen.pairs
                )
            feeds = {"image": np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)}
            session = open_session("onnxruntime", path)
            found["overhead"][network] = overhead(session, feeds, chosen.rounds, power_sensor(folder / network))
            (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            (HERE / "results.md").write_text(as_text(found), encoding="utf-8")


def as_text(found: dict[str, Any]) -> str:
    """Return the tables."""
    machine = found["machine"]
    lines = [
        "# The profiler against other tools\n",
        f"{machine['cpu_model']}, {machine['cores']} core(s), one thread, batch 1. Ratios are medians over pairs of processes that take turns, "
        "with 95 % bootstrap intervals. `benchmark_app` prints what OpenVINO's own clock says, so that edgekd's is what its profile calls "
        "*in the runtime*.\n",
        "| against | edgekd p50, ms | other, ms | ratio | pairs |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one['edgekd']:.4g} | {one['other']:.4g} | {_ratio(one)} | {one['rounds']} |"
        for name, one in found["agreement"].items()
    ]
    lines += ["\nWhat it adds to a call, against a bare loop in the same process:\n"]
    lines += ["| network | a call, ms | in the profiler's loop | beside a power sensor |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {one['profiler']['other'] * 1e3:.4g} | {_ratio(one['profiler'])} | {_ratio(one['sensor'])} |"
        for name, one in found["overhead"].items()
    ]
    return "\n".join(lines) + "\n"


def _ratio(one: dict[str, Any]) -> str:
    interval = "" if one["low"] is None else f" ({one['low']:.3f} to {one['high']:.3f})"
    return f"{one['ratio']:.3f}{interval}"


if __name__ == "__main__":
    main()
