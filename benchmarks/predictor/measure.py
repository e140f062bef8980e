"""Measure the networks of `networks.py` here, one thread: `python benchmarks/predictor/measure.py FOLDER MEASURED.json`.

Of each file: p50 of whole calls, and what each of its kernels takes by ONNX Runtime's own profile, in `--sessions` sessions far
apart, of which the quietest counts. It goes on where it was cut off, and stops after `--minutes`. Bind it to one core (`taskset -c 1`).
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import onnx

from edgekd.device.latency import measure
from edgekd.device.machine import read_machine, warnings
from edgekd.device.runtimes import node_times, open_session, runtime_version
from edgekd.files import write_json
from edgekd.models.onnx_graph import graph_signature
from edgekd.predict.features import Kernel, kernels_of


def measure_file(path: Path) -> dict[str, Any]:
    """Return p50 of whole calls in ms and, in microseconds, what each kernel takes and what belongs to none."""
    model = onnx.load(str(path))
    session = open_session("onnxruntime", path, 1)
    given = graph_signature(model).random_inputs(1)
    feeds = {info.name: given[info.name].astype(info.dtype) for info in session.inputs}
    latency = measure(lambda: session.run(feeds), duration_s=1.5, warmup_s=1.0)
    kernels = kernels_of(model)
    times, rest = kernel_times(kernels, [(one.name, one.time_us) for one in node_times("onnxruntime", path, feeds, 1)])
    return {
        "p50_ms": latency.p50_ms,
        "p50_low_ms": latency.p50_low_ms,
        "p50_high_ms": latency.p50_high_ms,
        "calls": latency.n,
        "kernels_us": times,
        "rest_us": rest,
    }


def quietest(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the session with the least p50, with the least time of every kernel over all of them."""
    names = {name for one in sessions for name in one["kernels_us"]}
    times = {name: min(one["kernels_us"][name] for one in sessions if name in one["kernels_us"]) for name in names}
    return {**min(sessions, key=lambda one: one["p50_ms"]), "kernels_us": times}


def kernel_times(kernels: list[Kernel], nodes: list[tuple[str, float]]) -> tuple[dict[str, float], float]:
    """Add the times of the runtime's nodes up by kernel; also return what belongs to none, such as changes of layout."""
    owner = {name: kernel.name for kernel in kernels for name in kernel.nodes}
    found: dict[str, float] = defaultdict(float)
    rest = 0.0
    for name, time_us in nodes:
        if name in owner:
            found[owner[name]] += time_us
        else:
            rest += time_us
    return dict(found), rest


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0)
    arguments = parser.parse_args()
    results: Path = arguments.results
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    fresh = {"machine": machine.to_dict(), "onnxruntime": runtime_version("onnxruntime"), "files": {}}
    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() else fresh
    until = time.monotonic() + 60 * arguments.minutes
    for session in range(arguments.sessions):
        for path in sorted(arguments.folder.glob("*.onnx")):
            done = kept["files"].setdefault(path.stem, [])
            if len(done) <= session and time.monotonic() < until:
                done.append(measure_file(path))
                write_json(results, kept)
                print(f"{path.stem}: {done[-1]['p50_ms']:.3f} ms", flush=True)


if __name__ == "__main__":
    main()
