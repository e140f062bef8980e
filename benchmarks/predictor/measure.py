"""Measure the networks of `networks.py` here, one thread: `python benchmarks/predictor/measure.py FOLDER MEASURED.json`.

Of each file: p50 of whole calls, and every node that ran by ONNX Runtime's own profile, in `--sessions` sessions far apart, of
which the quietest counts. It goes on where it was cut off, and stops after `--minutes`. Bind it to one core (`taskset -c 1`).
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from edgekd.device.latency import measure
from edgekd.device.machine import read_machine, warnings
from edgekd.device.runtimes import node_times, open_session, runtime_version
from edgekd.files import write_json
from edgekd.models.onnx_graph import graph_signature
from edgekd.predict.features import Kernel


def measure_file(path: Path) -> dict[str, Any]:
    """Return p50 of whole calls in ms, and the name and microseconds of every node that ran."""
    session = open_session("onnxruntime", path, 1)
    given = graph_signature(onnx.load(str(path))).random_inputs(1)
    feeds = {info.name: given[info.name].astype(info.dtype) for info in session.inputs}
    latency = measure(lambda: session.run(feeds), duration_s=1.5, warmup_s=1.0)
    nodes = [[one.name, one.time_us] for one in node_times("onnxruntime", path, feeds, 1)]
    return {
        "p50_ms": latency.p50_ms,
        "p50_low_ms": latency.p50_low_ms,
        "p50_high_ms": latency.p50_high_ms,
        "calls": latency.n,
        "nodes": nodes,
    }


def kernel_times(kernels: Sequence[Kernel], sessions: Sequence[dict[str, Any]]) -> list[float]:
    """Return what each kernel takes in microseconds, so that all together take the p50 of the quietest session.

    A node of the runtime belongs to the kernel that it is named after, or after one of whose tensors. What belongs to none, such as
    changes of layout, and what the profile itself costs, is shared out in proportion.
    """
    owner = {name: number for number, kernel in enumerate(kernels) for name in kernel.nodes}
    by_length = sorted(owner, key=len, reverse=True)
    least: dict[int, float] = {}
    for session in sessions:
        found: dict[int, float] = defaultdict(float)
        for name, time_us in session["nodes"]:
            known = name.removeprefix("fused ")
            if known not in owner:
                known = next((one for one in by_length if known.startswith((f"{one}/", f"{one}_"))), known)
            if known in owner:
                found[owner[known]] += time_us
        least = {number: min(time_us, least.get(number, time_us)) for number, time_us in found.items()}
    scale = 1e3 * min(one["p50_ms"] for one in sessions) / max(sum(least.values()), 1e-9)
    return [scale * least.get(number, 0.0) for number in range(len(kernels))]


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
