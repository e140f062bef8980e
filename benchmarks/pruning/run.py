"""Pruned networks that are really faster, and the budget that makes them so: `python benchmarks/pruning/run.py`.

`examples/fashion_mnist/model.pt` through the command line, in float32, for every seed:

- **macs**: half of the multiply-accumulates, then distillation from the uncut network;
- **latency-aware**: cut until the measured latency is a tenth below that of *macs*, with the importance divided by what
  a channel costs in milliseconds; then the same distillation.

Both files and the parent are then timed together, one thread, batch 1, in interleaved rounds, and judged on the 10,000
test images. The first arm answers whether half of the operations are at most 0.65 of the time at an accuracy within 0.3
points of the parent; the second whether a latency budget buys more speed at the same accuracy.

Needs Debian's dataset-fashion-mnist for the figures of `results.md` (the shipped 12,000 images do, too, with other figures)
and a machine with nothing else to do. Writes `results.json` and `results.md` beside this script.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgekd.device.machine import read_machine, warnings
from edgekd.host import time_files
from edgekd.models.source import Opening, open_model

HERE = Path(__file__).parent
MODEL = HERE.parent.parent / "examples" / "fashion_mnist" / "model.pt"
TARGET = "generic-x86"  # this machine is one, so its latency may drive the cut
FURTHER = 0.9  # of the time of the other arm
DISTILL = '[[stage]]\nkind = "distill"\nepochs = {epochs}\n'
MACS = '[[stage]]\nkind = "prune"\nto_macs = 0.5\n'
LATENCY = '[[stage]]\nkind = "prune"\nto_latency = {share:.3f}\nlatency_aware = true\n'


def compress(folder: Path, recipe: str, seed: int, threads: int) -> dict[str, Any]:
    """Run the command line; return its report."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    command = [sys.executable, "-m", "edgekd", "compress", str(MODEL), "--target", TARGET, "--seed", str(seed)]
    command += ["--threads", str(threads), "--recipe", str(folder / "recipe.toml"), "-o", str(folder / "run"), "--json"]
    report: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return report


def one_seed(seed: int, epochs: int, threads: int, work: Path) -> dict[str, Any]:
    """Run both arms with a seed; return their scores, and their times as shares of the parent's and of each other."""
    distill = DISTILL.format(epochs=epochs)
    reports = {"macs": compress(work / "macs", MACS + distill, seed, threads)}
    share = 1 / reports["macs"]["final"]["against_baseline"]["speedup"]["ratio"]
    budget = LATENCY.format(share=FURTHER * share)
    reports["latency-aware"] = compress(work / "latency-aware", budget + distill, seed, threads)
    files = {name: work / name / "run" / "artifact" / "model.onnx" for name in reports}
    (files["parent"],) = (work / "macs" / "run" / "onnx").glob("baseline-*.onnx")
    timed = time_files(files, "onnxruntime", open_model(MODEL, Opening()).state.signature, 1, rounds=60)
    found: dict[str, Any] = {
        "seed": seed,
        "parent": reports["macs"]["stages"][0]["figures"]["score"]["value"],
        "training_images": reports["macs"]["data"]["parts"]["train"],
    }
    for name, report in reports.items():
        against = timed.comparison(name, "parent")  # the parent's time over the arm's is a speed-up; here it is turned
        found[name] = {
            "accuracy": report["final"]["figures"]["score"]["value"],
            "macs_share": report["final"]["figures"]["macs"]["value"] / report["stages"][0]["figures"]["macs"]["value"],
            "time_share": [against.speedup, against.speedup_low, against.speedup_high],
        }
    faster = timed.comparison("macs", "latency-aware")
    found["latency_aware_faster"] = [faster.speedup, faster.speedup_low, faster.speedup_high]
    return found


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    seeds, machine = results["seeds"], results["machine"]
    lines = [
        "# Pruning\n\n",
        f"Made by `python benchmarks/pruning/run.py`: ResNet-8 (32, 64, 128) on Fashion-MNIST, {seeds[0]['training_images']:,} "
        f"training images, {results['epochs']} epochs of distillation, float32. Time: p50 as a share of the parent's, one thread, "
        f"batch 1, interleaved, with 95 % intervals, measured on {machine['cpu_model']} ({machine['cores']} cores, load "
        f"{machine['load_1min']}, {machine['time_utc'][:10]}).\n\n",
        "| seed | parent | macs: accuracy | MACs | time | latency-aware: accuracy | MACs | time | faster than macs |\n",
        "|---|---|---|---|---|---|---|---|---|\n",
    ]
    for seed in seeds:
        cells = [str(seed["seed"]), f"{seed['parent']:.2f} %"]
        for arm in ("macs", "latency-aware"):
            one = seed[arm]
            cells += [f"{one['accuracy']:.2f} %", f"{one['macs_share']:.2f}", _interval(*one["time_share"])]
        lines.append(f"| {' | '.join([*cells, _interval(*seed['latency_aware_faster'])])} |\n")
    drops = [seed["parent"] - seed["macs"]["accuracy"] for seed in seeds]
    gains = [seed["latency-aware"]["accuracy"] - seed["macs"]["accuracy"] for seed in seeds]
    lines.append(
        f"\n*macs* loses {statistics.mean(drops):+.2f} points ({min(drops):+.2f} to {max(drops):+.2f} over the seeds); "
        f"*latency-aware* against *macs*: {statistics.mean(gains):+.2f} points ({min(gains):+.2f} to {max(gains):+.2f}).\n"
    )
    return "".join(lines)


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


def main() -> None:
    """Run all seeds and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="for everything but latency (%(default)s)")
    arguments = parser.parse_args()
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    results: dict[str, Any] = {"machine": machine.to_dict(), "epochs": arguments.epochs, "seeds": []}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as work:
            results["seeds"].append(one_seed(seed, arguments.epochs, arguments.threads, Path(work)))
        print(json.dumps(results["seeds"][-1]), flush=True)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
