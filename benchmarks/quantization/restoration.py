"""A denoiser with weights of 4 bits, trained with and without distillation: `python benchmarks/quantization/restoration.py`.

Four convolutions take Gaussian noise (deviation 0.2) off images of Fashion-MNIST; they were trained in float on 20,000
images. In W4A8 they are trained with a few dozen images, through the command line, for every seed

- on the clean images alone;
- joined with distillation from the network in float: of the output (`mse`), of the output where a policy finds it worth
  while (`spatial-policy`, SPARK), and at the bottleneck (`bottleneck`, QDR).

Each seed has images of its own; 2,000 test images judge, in PSNR. Images, epochs and rate were chosen with other seeds, from
100, and judged on training images. Writes `restoration.json` and `restoration.md` beside this script.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from four_bits import compress, mean
from numpy.typing import NDArray
from subjects import ROOT, TRAINING_IMAGES, folder_part
from torch import nn
from torch.nn import functional

from edgekd.data.idx import read_idx
from edgekd.device.machine import read_machine, warnings
from edgekd.verbs.statistics import paired

HERE = Path(__file__).parent
NOISE = 0.2
WIDTH = 16
BATCH, EPOCHS, RATE = 64, 3, 4e-3  # of the network in float
IMAGES, JUDGED = 48, 2_000  # of a seed, of which 20 are trained on, 16 set ranges and 12 decide
SIDECAR = 'task = "regression"\n\n[[inputs]]\nname = "image"\nshape = ["batch", 1, 28, 28]\n'
RECIPE = """\
[data]
calibration = 16
validation = 0.25

[[stage]]
kind = "quantize"
simulate = true
weights = "int4"
calibrators = ["min-max"]

[[stage]]
kind = "distill"
epochs = 200
batch_size = 16
optimizer = "adamw"
"""
ARMS = {
    "clean images": "task = 1.0\nlosses = []\n",
    "distilled": 'task = 0.3\nlosses = [{ kind = "mse", weight = 0.7 }]\n',
    "spatial-policy": 'task = 0.3\nlosses = [{ kind = "mse", weight = 0.7, importance = "spatial-policy" }]\n',
    "bottleneck": 'task = 1.0\nlosses = [{ kind = "bottleneck", taps = { "4" = "4" } }]\n',
}


def clean(part: str, chosen: slice) -> NDArray[np.float32]:
    """Return images (N, 1, 28, 28) between 0 and 1."""
    return read_idx(folder_part(part, "images"))[chosen, None].astype(np.float32) / 255


def noisy(images: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return images with noise."""
    return images + NOISE * random.standard_normal(images.shape, np.float32)


def network_file(folder: Path) -> Path:
    """Return the denoiser in float, made where it is not there yet."""
    path = folder / "model.pt"
    if (folder / "complete").exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    random, images = np.random.default_rng(0), clean("train", slice(TRAINING_IMAGES))
    middle = [layer for _ in range(2) for layer in (nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU())]
    network = nn.Sequential(nn.Conv2d(1, WIDTH, 3, padding=1), nn.ReLU(), *middle, nn.Conv2d(WIDTH, 1, 3, padding=1))
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        for batch in np.array_split(random.permutation(len(images))[: steps * BATCH], steps):
            found = network(torch.from_numpy(noisy(images[batch], random)))
            loss = functional.mse_loss(found, torch.from_numpy(images[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    torch.save(network.eval(), path)
    (folder / "model.toml").write_text(SIDECAR, encoding="utf-8")
    (folder / "complete").touch()
    return path


def write_data(seed: int, path: Path) -> None:
    """Write the images of a seed, which the network has not seen, and those that judge, held out."""
    start = TRAINING_IMAGES + seed * IMAGES
    images = np.concatenate([clean("train", slice(start, start + IMAGES)), clean("t10k", slice(JUDGED))])
    held_out = np.arange(len(images)) >= IMAGES
    np.savez(path, image=noisy(images, np.random.default_rng(seed)), targets=images, held_out=held_out)


def psnr(report: dict[str, Any], stage: int) -> float:
    """Return the PSNR of a stage's file in dB, of images between 0 and 1, over all their pixels."""
    return float(-10 * np.log10(report["stages"][stage]["figures"]["score"]["value"]))


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    rows: Sequence[dict[str, Any]] = results["rows"]
    lines = [
        "# A denoiser in W4A8, with and without distillation\n\n",
        "Made by `python benchmarks/quantization/restoration.py`: four convolutions of "
        f"{WIDTH} channels, noise of {NOISE}, {IMAGES} images a seed (20 trained on, 16 set ranges, 12 decide), 200 epochs, "
        f"{JUDGED:,} test images. PSNR, the mean over {len(rows)} seeds: in float {mean(rows, 'float'):.2f} dB, in W4A8 before "
        f"it is trained {mean(rows, 'rounded'):.2f} dB. Gains against the clean images alone are paired, with 95 % intervals "
        "(Student's t). Images, epochs and rate were chosen with other seeds, where distillation looked worth it.\n\n",
        "| arm | PSNR | gain |\n|---|---|---|\n",
    ]
    first = next(iter(ARMS))
    for arm in ARMS:
        gain = "" if arm == first else "{} dB ({})".format(*paired([row[arm] - row[first] for row in rows]).in_words())
        lines.append(f"| {arm} | {mean(rows, arm):.2f} dB | {gain} |\n")
    return "".join(lines)


def main() -> None:
    """Run all arms and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "quantization", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    work = arguments.work.resolve() / "denoiser"
    model, folder = network_file(work / "subject"), work / "restoration"
    results: dict[str, Any] = {"machine": machine.to_dict(), "rows": []}
    for seed in range(arguments.seeds):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_data(seed, folder / "data.npz")
        row: dict[str, Any] = {"seed": seed}
        for arm, losses in ARMS.items():
            report = compress(model, folder / "data.npz", RECIPE + losses, seed, folder, arguments.threads)
            row |= {"float": psnr(report, 0), "rounded": psnr(report, 1), arm: psnr(report, -1)}
        results["rows"].append(row)
        print(json.dumps(row), flush=True)
    (HERE / "restoration.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "restoration.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
