"""Is the profiler right, and does it slow down what it measures? `taskset -c 1 python benchmarks/profiler/run.py`.

Each tool is a process of its own, one thread, the same file; in every round the two follow each other, in turned order. A
round gives one ratio of medians; shown is the median over the rounds with its 95 % bootstrap interval. OpenVINO's
`benchmark_app` prints hundredths of a millisecond, so that it is held against networks of several milliseconds.

What profiling adds is measured in one process: calls a second inside of the profiler's loop, and with a power sensor read
beside them, against a loop that only calls. Blocks of half a second alternate.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekd.device.comparison import paired_speedup
from edgekd.device.latency import garbage_collection_off, measure
from edgekd.device.machine import read_machine, warnings
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.device.sensors.ina3221 import Ina3221
from edgekd.models.networks import MobileNetV2, ResNet8
from edgekd.models.networks.mobilenet_v1 import MobileNetV1
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.export.onnx_writer import write_onnx

HERE = Path(__file__).parent
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "mobilenet-v1, 224": (lambda: MobileNetV1(1.0, 1000), (3, 224, 224)),
    "mobilenet-v2, 224": (lambda: MobileNetV2(), (3, 224, 224)),
    "resnet-8, 28": (lambda: ResNet8(in_channels=1), (1, 28, 28)),
}
LARGE = ("mobilenet-v1, 224", "mobilenet-v2, 224")
CHIP = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


def write(name: str, folder: Path) -> Path:
    """Write a network with random weights as ONNX, batch free."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    path = folder / f"{re.sub('[^a-z0-9]+', '-', name)}.onnx"
    signature = Signature(inputs=(TensorSpec(name="image", shape=("batch", *shape), dtype="float32"),))
    write_onnx(build().eval(), signature, path)
    return path


def edgekd_ms(path: Path, runtime: str, seconds: float) -> float:
    """Return the p50 that `edgekd profile` prints."""
    command = [sys.executable, "-m", "edgekd", "profile", str(path), "--runtime", runtime, "--sensor", "none", "--json"]
    found = json.loads(subprocess.check_output([*command, "--duration", f"{seconds:g}s"], stderr=subprocess.DEVNULL))
    return float(found["latency"]["p50_ms"])


def bare_loop_ms(path: Path, seconds: float) -> float:
    """Return the median of a loop around ONNX Runtime."""
    return float(subprocess.check_output([sys.executable, str(HERE / "bare_loop.py"), str(path), str(seconds)]))


def benchmark_app_ms(path: Path, seconds: float, shape: Sequence[int]) -> float:
    """Return the median that OpenVINO's `benchmark_app` prints, with the settings that edgekd opens a session with."""
    command = ["benchmark_app", "-m", str(path), "-d", "CPU", "-hint", "none", "-api", "sync", "-nthreads", "1"]
    more = ["-nstreams", "1", "-infer_precision", "f32", "-shape", str([1, *shape]), "-t", f"{seconds:g}"]
    said = subprocess.check_output([*command, *more], text=True, stderr=subprocess.STDOUT)
    return float(re.search(r"Median:\s+([\d.]+) ms", said)[1])  # type: ignore[index]


def ratios(one: Callable[[], float], other: Callable[[], float], rounds: int) -> dict[str, Any]:
    """Return the median over the rounds of the first's time divided by the second's, with its interval."""
    times: list[list[float]] = [[], []]
    for number in range(rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            times[index].append((one, other)[index]())
    ratio, low, high = paired_speedup(*([np.array([time]) for time in arm] for arm in times))
    medians = [float(np.median(arm)) for arm in times]
    return {"ratio": ratio, "low": low, "high": high, "rounds": rounds, "edgekd_ms": medians[0], "other_ms": medians[1]}


def overhead(session: Session, feeds: dict[str, Any], rounds: int, sensor: Ina3221) -> dict[str, Any]:
    """Return the time of a call inside of the profiler, and beside a sensor, divided by that of a call in a bare loop."""
    span = [0.0, 0.0, 0]

    def run() -> None:
        if span[2] == 0:
            span[0] = time.perf_counter()
        session.run(feeds)
        span[1], span[2] = time.perf_counter(), span[2] + 1

    def plainly() -> None:
        with garbage_collection_off():
            end = time.perf_counter() + 0.5
            while time.perf_counter() < end:
                for _ in range(10):
                    run()

    def profiled() -> None:
        measure(run, duration_s=0.5, warmup_s=0.01, precision=-1.0)

    def sensed() -> None:
        sensor.begin()
        plainly()
        sensor.end()

    def per_call(arm: Callable[[], None]) -> float:
        span[:] = [0.0, 0.0, 0]
        arm()
        return (span[1] - span[0]) / (span[2] - 1)

    return {
        name: ratios(lambda arm=arm: per_call(arm), lambda: per_call(plainly), rounds)  # type: ignore[misc]
        for name, arm in (("profiler", profiled), ("sensor", sensed))
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
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
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
            found["agreement"][f"bare loop, {network}"] = ratios(
                lambda path=path: edgekd_ms(path, "onnxruntime", chosen.seconds),  # type: ignore[misc]
                lambda path=path: bare_loop_ms(path, chosen.seconds),  # type: ignore[misc]
                chosen.rounds,
            )
            if network in LARGE:
                found["agreement"][f"benchmark_app, {network}"] = ratios(
                    lambda path=path: edgekd_ms(path, "openvino", chosen.seconds),  # type: ignore[misc]
                    lambda path=path, shape=shape: benchmark_app_ms(path, chosen.seconds, shape),  # type: ignore[misc]
                    chosen.rounds,
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
        f"{machine['cpu_model']}, {machine['cores']} core(s), one thread, batch 1. Ratios are medians over rounds of paired processes, "
        "with 95 % bootstrap intervals.\n",
        "| against | edgekd p50, ms | other, ms | ratio | rounds |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one['edgekd_ms']:.4g} | {one['other_ms']:.4g} | {_ratio(one)} | {one['rounds']} |"
        for name, one in found["agreement"].items()
    ]
    lines += ["\nWhat it adds to a call, against a bare loop in the same process:\n"]
    lines += ["| network | a call, ms | in the profiler's loop | beside a power sensor |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {one['profiler']['other_ms'] * 1e3:.4g} | {_ratio(one['profiler'])} | {_ratio(one['sensor'])} |"
        for name, one in found["overhead"].items()
    ]
    return "\n".join(lines) + "\n"


def _ratio(one: dict[str, Any]) -> str:
    interval = "" if one["low"] is None else f" ({one['low']:.3f} to {one['high']:.3f})"
    return f"{one['ratio']:.3f}{interval}"


if __name__ == "__main__":
    main()
