"""Does the interval of `edgekd compare` hold while other work runs on the same core? `python benchmarks/profiler/compare.py --core 1`.

Two networks, each against itself and against copies with a branch of real computation beside them. How much slower a copy is, is
measured on the quiet core first (`--times 0`); then a process that computes and rests in turns shares it. `--minutes` bounds a call,
the next one goes on. `compare.json` and `compare.md` are written.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "gate"))
from run import write  # noqa: E402  # of this folder
from slower import with_branch  # noqa: E402

from edgekd.device.compare import compare  # noqa: E402
from edgekd.files import write_json  # noqa: E402
from edgekd.verbs.timed_model import launchable  # noqa: E402

RESULTS, PAGE = HERE / "compare.json", HERE / "compare.md"
BRANCHES = {  # width and kernel
    "resnet-8, 28": {"same": None, "a little slower": (8, 3), "slower": (16, 3)},
    "mobilenet-v1, 224": {"same": None, "a little slower": (8, 3), "slower": (10, 3)},
}
FIGURES = {"latency-p50": "median", "cpu-time": "CPU time", "latency-min": "minimum"}
QUIET_S, LOADED_S = 30.0, 10.0


def write_pair(network: str, branch: tuple[int, int] | None, folder: Path) -> tuple[Path, Path]:
    """Write a network and its copy, and return both files."""
    one = write(network, folder)
    other = one.with_name(f"{one.stem}-{branch}.onnx")
    model = onnx.load(str(one))
    onnx.save(with_branch(model, *branch) if branch else model, str(other))
    return one, other


@contextmanager
def load(core: int) -> Iterator[None]:
    """Run a busy process on the core."""
    command = [sys.executable, str(HERE.parent / "gate/load.py"), str(core), str(int(time.time()))]
    with subprocess.Popen(command) as busy:
        try:
            yield
        finally:
            busy.terminate()


def measure(pair: tuple[Path, Path], seconds: float) -> dict[str, Any]:
    """Return the speed-ups by figure of the network against its copy, the verdict and what it is by."""
    copy, network = (launchable(path, 1) for path in pair[::-1])
    found = compare(network, copy, duration_s=seconds)["comparison"]
    speedups = {
        name: {key: one[key] for key in ("speedup", "low", "high", "verdict")}
        for name, one in found["speedups"].items()
    }
    return {"verdict": found["verdict"], "by": found["by"], "speedups": speedups}


def main() -> None:
    """Do what is left to do, for as long as it may take."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=9.0, help="no comparison begins after so many minutes")
    parser.add_argument("--times", type=int, default=20, help="comparisons of each pair under load")
    parser.add_argument("--work", type=Path, default=Path("compare-benchmark"), help="where the models are kept")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    os.sched_setaffinity(0, {options.core})
    options.work.mkdir(exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    pairs = {
        f"{network}: {case}": write_pair(network, branch, options.work)
        for network, cases in BRANCHES.items()
        for case, branch in cases.items()
    }
    for name, pair in pairs.items():
        if name not in results and time.monotonic() < until:
            results[name] = {"quiet": measure(pair, QUIET_S), "loaded": []}
            write_json(RESULTS, results)
    with load(options.core):
        for number in range(options.times):
            for name, pair in pairs.items():
                if name in results and len(results[name]["loaded"]) <= number and time.monotonic() < until:
                    results[name]["loaded"].append(measure(pair, LOADED_S))
                    write_json(RESULTS, results)
    PAGE.write_text(as_text(results), encoding="utf-8")


def as_text(results: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        "# `edgekd compare` on a busy core\n",
        f"<!-- made by compare.py -->\n\nThe network against its copy: speed-up on the quiet core ({QUIET_S:g} s), then how many of the "
        f"95 % intervals on the busy one ({LOADED_S:g} s each) hold it (1 for a copy that is the same), and their median width.\n",
        f"| pair | {' | '.join(f'{words}, quiet | held' for words in FIGURES.values())} | verdicts, busy |",
        "|---|" + "---|" * (2 * len(FIGURES) + 1),
    ]
    for name, one in results.items():
        cells = []
        for figure in FIGURES:
            truth, found = one["quiet"]["speedups"][figure], [run["speedups"][figure] for run in one["loaded"]]
            true = 1.0 if name.endswith(": same") else truth["speedup"]
            held = sum(run["low"] <= true <= run["high"] for run in found)
            widths = sorted(run["high"] - run["low"] for run in found)
            width = f", {100 * widths[len(widths) // 2]:.1f} %" if widths else ""
            cells += [
                f"{truth['speedup']:.3f} ({truth['low']:.3f} to {truth['high']:.3f})",
                f"{held} of {len(found)}{width}",
            ]
        verdicts = [run["verdict"] for run in one["loaded"]]
        counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in sorted(set(verdicts)))
        lines.append(f"| {name} | {' | '.join(cells)} | {counted} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
