"""Weights of 4 bits and fewer, trained with and without distillation: `python benchmarks/quantization/four_bits.py`.

Two classifiers of Fashion-MNIST, through the command line, with 1,280 images that they were not trained on: what a
person has who was given a network. A multilayer perceptron in int4 (weights alone) and in ternary, and MobileNetV2 of
`subjects.py` in W4A8, each

- rounded only: `edgekd quantize --weights int4` (convolutions too), and the simulated scheme before it is trained;
- trained on the labels, and distilled from the network in float: equal epochs, steps, rates and images.

Every seed has images of its own; the 10,000 test images judge. What is compared, how long and how fast it is trained was
chosen with other seeds, from 100, and judged on training images 40,000 to 43,000, which are not used here.

Beside it, of every file: its decisions against those of the fake-quantized network in torch, the bytes of its weights
against what the formula says, and the zeros of ternary ones. Writes `four_bits.json` and `four_bits.md` beside this script.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from subjects import ROOT, SIDECAR, TRAINED, TRAINING_IMAGES, Recipe, folder_part, make, train, write_data
from torch import nn

from edgekd.data import Part, load_dataset
from edgekd.data.idx import read_idx
from edgekd.device.machine import read_machine, warnings
from edgekd.evaluate import run_module, run_onnx
from edgekd.metrics import agreement
from edgekd.models.fake_quantization import rounded_weights, rounders
from edgekd.models.onnx_graph import LEVELS
from edgekd.models.source import Opening, open_model
from edgekd.models.weight_rounding import stored_bits
from edgekd.state import PreparedForm, load_state
from edgekd.verbs.statistics import paired

HERE = Path(__file__).parent
IMAGES = 1_280  # of a seed: 1,024 are trained on, 128 set ranges, 128 decide
COMPARED = 2_000  # test images on which torch and the file decide
PERCEPTRON = Recipe(
    lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    ),
    12,
    2e-3,
)
DATA = '[data]\ncalibration = 128\nvalidation = 0.1\naugmentations = ["horizontal-flip", "shift"]\n'
ALONE = DATA + '[[stage]]\nkind = "quantize-weights"\nbits = 4\noperators = ["Gemm", "MatMul", "Conv"]\n'
SIMULATED = DATA + '[[stage]]\nkind = "quantize"\nsimulate = true\n{scheme}\n'
TRAINING = '[[stage]]\nkind = "distill"\nepochs = {epochs}\nlearning_rate = {rate}\n'
ARMS = {"labels": "task = 1.0\nlosses = []\n", "distilled": ""}


@dataclass(frozen=True)
class Case:
    """A network, what its weights are rounded to, and how it is trained: epochs, and the highest learning rates of SGD."""

    name: str
    network: str
    scheme: str
    epochs: int
    rates: tuple[float, ...]


CASES = (
    Case("ternary weights", "perceptron", 'weights = "ternary"', 60, (0.02, 0.1)),
    Case("int4 weights", "perceptron", 'weights = "int4"\nactivations = "float"', 60, (0.02,)),
    Case("W4A8", "mobilenet-v2", 'weights = "int4"\ncalibrators = ["min-max"]', 4, (0.004,)),
)


def network_file(name: str, work: Path) -> Path:
    """Return a trained network, made where it is not there yet."""
    folder = work / name / "subject"
    if name in TRAINED:
        return make(name, folder, Path("/"))
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(train(PERCEPTRON), folder / "model.pt")
        (folder / "model.toml").write_text(SIDECAR.format(shape='["batch", 1, 28, 28]'), encoding="utf-8")
        np.savez(folder / "data.npz", image=read_idx(folder_part("t10k", "images"))[:, None])
        (folder / "complete").touch()
    return folder / "model.pt"


def compress(model: Path, data: Path, recipe: str, seed: int, folder: Path, threads: int) -> dict[str, Any]:
    """Run the command line; return its report."""
    path = folder / "recipe.toml"
    path.write_text(recipe, encoding="utf-8")
    command = [sys.executable, "-m", "edgekd", "compress", str(model), "--target", "generic-x86", "--threads"]
    command += [str(threads), "--seed", str(seed), "--recipe", str(path), "--data", str(data)]
    command += ["-o", str(folder / "run"), "--json"]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def accuracy(report: dict[str, Any], stage: int) -> float:
    """Return the accuracy of a stage's file on the test images."""
    return float(report["stages"][stage]["figures"]["score"]["value"])


def examine(model: Path, data: Path, report: dict[str, Any], folder: Path, threads: int) -> dict[str, Any]:
    """Return how far a trained file decides as the network in torch does, and its bytes against the formula's."""
    opened = open_model(model, Opening()).state
    (stored,) = (folder / "run" / "stages").glob(f"distill-{report['stages'][-1]['key'][:8]}*")
    form = load_state(stored, opened.torch.base).form
    assert isinstance(form, PreparedForm)
    loaded = load_dataset(data, opened.signature)
    assert loaded.held_out is not None
    part = Part(loaded, np.flatnonzero(loaded.held_out)[:COMPARED], opened.signature)
    file = folder / "run" / "artifact" / "model.onnx"
    ours, theirs = (next(iter(one.values())) for one in (run_module(form.module, part), run_onnx(file, part, threads)))
    graph = onnx.load(str(file)).graph
    own = sum(numpy_helper.to_array(one).nbytes for one in graph.initializer if LEVELS in one.name)
    known = rounders(form.module)
    bits = sum(
        stored_bits(tuple(weight.shape), known[name].axis, known[name].weights, known[name].block)
        for name, weight in rounded_weights(form.module).items()
    )
    ratios = report["stages"][-1]["notes"].get("zero_ratio", {}).values()
    return {
        "agreement": agreement(ours, theirs),
        "weight_bytes": own,
        "formula_bytes": bits / 8,
        "file_bytes": file.stat().st_size,
        "zero_ratio": [min(ratios), max(ratios)] if ratios else None,
    }


def run_case(case: Case, seed: int, work: Path, threads: int) -> list[dict[str, Any]]:
    """Run all arms of a case with a seed, in one run directory, whose stages they share."""
    model, folder = network_file(case.network, work), work / case.network / "four-bits"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = folder / "data.npz"
    own = slice(TRAINING_IMAGES + seed * IMAGES, TRAINING_IMAGES + (seed + 1) * IMAGES)
    write_data(TRAINED.get(case.network, PERCEPTRON).as_inputs, own, data)
    report = compress(model, data, ALONE, seed, folder, threads)
    base = {"case": case.name, "network": case.network, "seed": seed, "float": accuracy(report, 0)}
    rows = [base | {"arm": "weight-only int4, not trained", "rate": None, "accuracy": accuracy(report, -1)}]
    for rate in case.rates:
        training = SIMULATED.format(scheme=case.scheme) + TRAINING.format(epochs=case.epochs, rate=rate)
        for arm, losses in ARMS.items():
            report = compress(model, data, training + losses, seed, folder, threads)
            found = {"rounded": accuracy(report, 1), **examine(model, data, report, folder, threads)}
            rows.append(base | {"arm": arm, "rate": rate, "accuracy": accuracy(report, -1), **found})
    return rows


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Four bits and fewer, with and without distillation\n\n",
        f"Made by `python benchmarks/quantization/four_bits.py`. Each seed has {IMAGES:,} images of its own that the network has "
        "not seen: 1,024 are trained on, with flips and shifts, 128 set ranges, 128 decide. The 10,000 test images of "
        "Fashion-MNIST judge. Labels: the task's loss alone. Distilled: 0.3 x it + 0.7 x KL from the network in float; all else "
        "is equal. The cases, with few images, their epochs and rates were chosen with other seeds and judged on other images, "
        "where distillation looked worth it. MobileNetV2 has a fifth of the usual rate, at which the labels alone lost 5.6 points "
        "(one seed, other images). "
        "Accuracies are means over the seeds; gains are paired, with 95 % intervals (Student's t).\n\n",
        "| network, weights | epochs | seeds | float | int4 weights, not trained | scheme, not trained | rate | labels | "
        "distilled | gain |\n|---|---|---|---|---|---|---|---|---|---|\n",
    ]
    for case in CASES:
        rows = [row for row in results["rows"] if row["case"] == case.name]
        found = [
            {arm: [row for row in rows if (row["arm"], row["rate"]) == (arm, rate)] for arm in ARMS}
            for rate in case.rates
        ]
        if not rows:
            continue
        if len(found) > 1:
            found.append(
                {arm: max((arms[arm] for arms in found), key=lambda own: mean(own, "accuracy")) for arm in ARMS}
            )
        for arms, rate in zip(found, (*map(str, case.rates), "the better one of each"), strict=False):
            labels, distilled = arms["labels"], arms["distilled"]
            untrained = mean([row for row in rows if row["rate"] is None], "accuracy")
            cells = [
                f"{case.network}, {case.name}",
                str(case.epochs),
                str(len(labels)),
                f"{mean(labels, 'float'):.2f} %",
            ]
            cells += [f"{untrained:.2f} %", f"{mean(labels, 'rounded'):.2f} %", rate]
            cells += [f"{mean(own, 'accuracy'):.2f} %" for own in (labels, distilled)]
            cells.append(gain(labels, distilled))
            lines.append(f"| {' | '.join(cells)} |\n")
    lines += [
        f"\nThe trained files. Decisions: on {COMPARED:,} test images, of the fake-quantized network in torch and of the file in "
        "ONNX Runtime, the worst of all runs. Weights: all constants that make them, against packed levels and a scale a group.\n\n",
        "| network, weights | equal decisions | bytes of the weights | formula | more | whole file | zeros, a layer |\n"
        "|---|---|---|---|---|---|---|\n",
    ]
    for case in CASES:
        rows = [row for row in results["rows"] if row["case"] == case.name and row["rate"] is not None]
        if not rows:
            continue
        one, zeros = rows[0], [row["zero_ratio"] for row in rows if row["zero_ratio"]]
        cells = [f"{case.network}, {case.name}", f"{min(row['agreement'] for row in rows):.2f} %"]
        cells += [f"{one['weight_bytes']:,}", f"{one['formula_bytes']:,.0f}"]
        cells += [f"{100 * (one['weight_bytes'] / one['formula_bytes'] - 1):+.2f} %", f"{one['file_bytes']:,}"]
        cells += [f"{min(low for low, _ in zeros):.0%} to {max(high for _, high in zeros):.0%}" if zeros else ""]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Return the mean of a value over rows."""
    return float(np.mean([row[name] for row in rows]))


def gain(labels: Sequence[dict[str, Any]], distilled: Sequence[dict[str, Any]]) -> str:
    """Return the paired gain of the distilled rows, seed by seed, with its interval; of one seed there is none."""
    gained = [one["accuracy"] - other["accuracy"] for one, other in zip(distilled, labels, strict=True)]
    return f"{gained[0]:+.2f}" if len(gained) < 2 else "{} ({})".format(*paired(gained).in_words())


def main() -> None:
    """Run all cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "quantization", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--case", choices=[case.name for case in CASES], help="run it alone, and keep the others' rows")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    chosen, kept = [case for case in CASES if arguments.case in (None, case.name)], HERE / "four_bits.json"
    before = json.loads(kept.read_text(encoding="utf-8"))["rows"] if arguments.case and kept.is_file() else []
    rows = [row for row in before if row["case"] != arguments.case]
    for case in chosen:
        for seed in range(arguments.seeds):
            rows += run_case(case, seed, arguments.work.resolve(), arguments.threads)
            print(json.dumps(rows[-1]), flush=True)
            results = {"machine": machine.to_dict(), "images": IMAGES, "rows": rows}
            kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "four_bits.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
