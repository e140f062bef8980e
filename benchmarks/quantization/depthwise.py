"""A depthwise network in int8: `python benchmarks/quantization/depthwise.py`.

Depthwise layers have few weights a channel and uneven ranges, which is where int8 usually loses most. MobileNetV2 of
`subjects.py`, judged on the 10,000 test images of Fashion-MNIST, through the command line:

- static int8 as it comes;
- static int8 with `accuracy_drop = 0.5`;
- fake quantization trained with distillation from the float network, for every seed.

Writes `depthwise.json` and `depthwise.md` beside this script; the network goes to `--work`, as with `run.py`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from judge import DRAWS, Judge
from subjects import ROOT, TRAINED, TRAINING_IMAGES, make, write_data

from edgekd.data import Part, load_dataset
from edgekd.device.machine import read_machine, warnings
from edgekd.evaluate import run_onnx
from edgekd.models.signature import Signature, read_sidecar

HERE = Path(__file__).parent
NETWORK = "mobilenet-v2"
PTQ = '[data]\nvalidation = 0.1\n[[stage]]\nkind = "quantize"\n'
ARMS = {
    "int8": PTQ,
    "int8 with accuracy control": PTQ + "accuracy_drop = 0.5\n",
    "int8, distilled": PTQ + 'simulate = true\n[[stage]]\nkind = "distill"\nepochs = 3\n',
}
LEARNED = ("int8, distilled",)


def compress(model: Path, data: Path, arm: str, seed: int, folder: Path, threads: int) -> tuple[Path, Path, Any]:
    """Run the command line; return the float file, the int8 file and the last stage's notes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    recipe = folder / "recipe.toml"
    recipe.write_text(ARMS[arm], encoding="utf-8")
    command = [sys.executable, "-m", "edgekd", "compress", str(model), "--target", "generic-x86", "--threads"]
    command += [str(threads), "--seed", str(seed), "--recipe", str(recipe), "--data", str(data), "-o"]
    command += [str(folder / "run"), "--json"]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    (source,) = (folder / "run").glob("onnx/baseline-*.onnx")
    return source, folder / "run" / "artifact" / "model.onnx", report["stages"][-1].get("notes", {})


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# A depthwise network in int8\n\n",
        "Made by `python benchmarks/quantization/depthwise.py`: MobileNetV2, width 0.35, 56 x 56, on Fashion-MNIST, "
        f"{TRAINING_IMAGES:,} training images for the tools, 10,000 test images to judge. Float: {results['fp32']:.2f} %. "
        f"Drops in points with 95 % intervals over the images ({DRAWS:,} draws).\n\n",
        "| arm | seed | accuracy | drop | layers in float |\n|---|---|---|---|---|\n",
    ]
    for row in results["rows"]:
        drop = "{:+.2f} ({:+.2f} to {:+.2f})".format(*row["drop"])
        lines.append(
            f"| {row['arm']} | {row['seed']} | {row['accuracy']:.2f} % | {drop} | {row['layers_in_float']} |\n"
        )
    return "".join(lines)


def main() -> None:
    """Run all arms and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "quantization", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    work = arguments.work.resolve() / NETWORK
    model, data = make(NETWORK, work / "subject", Path("/")), work / "depthwise.npz"
    write_data(TRAINED[NETWORK].as_inputs, slice(TRAINING_IMAGES), data)
    sidecar = read_sidecar(model)
    assert sidecar.inputs is not None
    signature = Signature(inputs=sidecar.inputs, preprocessing=sidecar.preprocessing, task="classification")
    loaded = load_dataset(data, signature)
    assert loaded.held_out is not None
    part = Part(loaded, np.flatnonzero(loaded.held_out), signature)
    rows: list[dict[str, Any]] = []
    for arm in ARMS:
        for seed in range(arguments.seeds if arm in LEARNED else 1):
            folder = work / "depthwise" / f"{arm.replace(' ', '-').replace(',', '')}-{seed}"
            source, file, notes = compress(model, data, arm, seed, folder, arguments.threads)
            outputs = [next(iter(run_onnx(path, part, arguments.threads).values())) for path in (source, file)]
            judge = Judge(outputs[0], None, part.targets_at())
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "accuracy": judge.score(outputs[1])["accuracy"],
                    "drop": judge.compare(outputs[0], outputs[1])["accuracy"],
                    "layers_in_float": len(notes.get("accuracy_drop", {}).get("layers_in_float", [])),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    results = {"machine": machine.to_dict(), "fp32": judge.score(outputs[0])["accuracy"], "rows": rows}
    (HERE / "depthwise.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "depthwise.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
