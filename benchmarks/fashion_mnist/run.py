"""The main job on real data, with its arms and its price: `python benchmarks/fashion_mnist/run.py`.

Needs Debian's dataset-fashion-mnist (60,000 training images) and a machine with nothing else to do. For every seed,
`edgekd compress --arms` on examples/fashion_mnist/model.pt for raspberry-pi-5; then the same artifact by hand
(`by_hand.py`), for the wall time. Writes `results.json` and `results.md` beside this script.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgekd.device.machine import read_machine, warnings

HERE = Path(__file__).parent
MODEL = HERE.parent.parent / "examples" / "fashion_mnist" / "model.pt"


def compress(folder: Path, seed: int, *arguments: str) -> tuple[dict, float]:
    """Run the command a person would, in a process of its own; return its report and its wall time in seconds."""
    command = [sys.executable, "-m", "edgekd", "compress", str(MODEL), "--target", "raspberry-pi-5"]
    command += ["-o", str(folder), "--seed", str(seed), "--json", *arguments]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), time.monotonic() - start


def by_hand(folder: Path) -> tuple[str, float]:
    """Run the hand-written script; return its last line and its wall time in seconds."""
    start = time.monotonic()
    command = [sys.executable, str(HERE / "by_hand.py"), str(MODEL), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return done.stdout.strip().splitlines()[-1], time.monotonic() - start


def summary(report: dict, seconds: float) -> dict:
    """Return the figures that are promised, of one run."""
    first, last = report["stages"][0]["figures"], report["final"]["figures"]
    return {
        "seconds": round(seconds, 1),
        "accuracy_before": first["score"]["value"],
        "accuracy_after": last["score"]["value"],
        "drop": round(first["score"]["value"] - last["score"]["value"], 3),
        "times_smaller": round(first["size_kb"]["value"] / last["size_kb"]["value"], 2),
        "speedup": report["final"]["against_baseline"]["speedup"],
        "p50_ms": [first["latency_p50_ms"]["value"], last["latency_p50_ms"]["value"]],
        "arms": {name: arm["value"] for name, arm in report["arms"].items()},
        "training_images": report["data"]["parts"]["train"],
    }


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--rounds", type=int, default=1, help="paired wall-time rounds of edgekd and the hand-written script"
    )
    arguments = parser.parse_args()
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    results: dict = {"machine": machine.to_dict(), "seeds": [], "wall": []}
    with tempfile.TemporaryDirectory() as work:
        for number in range(arguments.rounds):
            _, ours = compress(Path(work) / f"wall-{number}", 0)
            line, theirs = by_hand(Path(work) / f"hand-{number}")
            results["wall"].append({"edgekd_s": round(ours, 1), "by_hand_s": round(theirs, 1), "by_hand": line})
            print(json.dumps(results["wall"][-1]), flush=True)
        for seed in range(arguments.seeds):
            folder = Path(work) / (f"seed-{seed}" if seed or not arguments.rounds else "wall-0")
            report, seconds = compress(folder, seed, "--arms")
            results["seeds"].append({"seed": seed, **summary(report, seconds)})
            print(json.dumps(results["seeds"][-1]), flush=True)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(page(results), encoding="utf-8")


def page(results: dict) -> str:
    """Return the results as Markdown."""
    machine = results["machine"]
    lines = [
        "# Fashion-MNIST, ResNet-8 with widths 32/64/128, for raspberry-pi-5\n",
        "\nMade by `python benchmarks/fashion_mnist/run.py`. Latency: ONNX Runtime, one thread, batch 1, measured on "
        f"{machine['cpu_model']} ({machine['int8_isa']}, {machine['cores']} cores, {machine['time_utc'][:10]}); nothing here is a "
        "figure of the board. Accuracy: 10,000 test images.\n\n",
        "| seed | accuracy before | after | drop | times smaller | times faster (95 %) | without distillation | from scratch |\n",
        "|---|---|---|---|---|---|---|---|\n",
    ]
    for run in results["seeds"]:
        speed, arms = run["speedup"], run["arms"]
        lines.append(
            f"| {run['seed']} | {run['accuracy_before']:.2f} | {run['accuracy_after']:.2f} | {run['drop']:.2f} | "
            f"{run['times_smaller']:.1f} | {speed['ratio']:.2f} ({speed['low']:.2f} to {speed['high']:.2f}) | "
            f"{arms['without-distillation']:.2f} | {arms['from-scratch']:.2f} |\n"
        )
    gains = [run["accuracy_after"] - run["arms"]["from-scratch"] for run in results["seeds"]]
    against = [run["accuracy_after"] - run["arms"]["without-distillation"] for run in results["seeds"]]
    lines.append(
        f"\nAgainst the same architecture trained from scratch: {statistics.mean(gains):+.2f} points on average "
        f"({', '.join(f'{gain:+.2f}' for gain in gains)}); against the same start without distillation: "
        f"{statistics.mean(against):+.2f} ({', '.join(f'{gain:+.2f}' for gain in against)}).\n"
    )
    for round_ in results["wall"]:
        ratio = round_["edgekd_s"] / round_["by_hand_s"]
        lines.append(
            f"\nWall time: `edgekd compress` {round_['edgekd_s']:.0f} s, by hand {round_['by_hand_s']:.0f} s, ratio {ratio:.2f} "
            f"(by hand: {round_['by_hand']}).\n"
        )
    return "".join(lines)


if __name__ == "__main__":
    main()
