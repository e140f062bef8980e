"""MLPerf Tiny's autoencoder on synthetic machine sounds, to int8: `python benchmarks/anomaly/run.py`.

For every seed: new sounds (`machine_sounds.py`), the bundled autoencoder trained on normal ones, and two runs of the
command line, plain static int8 and `--accuracy-drop 0.5`. The area under the ROC curve is that of windows, as edgekd
judges them, and of whole clips, whose score is the mean of their windows, as MLPerf Tiny judges them. A clip is in one
part of the data only.

Writes `results.json` and `results.md` beside this script.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine_sounds import clips
from numpy.typing import NDArray

from edgekd.device.machine import read_machine, warnings
from edgekd.device.runtimes import open_session
from edgekd.metrics import area_under_curve
from edgekd.models.networks import Autoencoder

HERE = Path(__file__).parent
TRAINED, JUDGED = (800, 0), (200, 200)  # normal and faulty clips
DECIDING = (60, 60)  # what validation judges, and calibration too
EPOCHS, BATCH, LEARNING_RATE = 40, 256, 1e-3
DROP = 0.5  # points of the area under the curve, which is 0.005 of it
SIDECAR = """\
task = "anomaly"
data = "data.npz"

[[inputs]]
name = "spectrogram"
shape = ["batch", 640]
"""
RECIPE = """\
name = "quantize"
[data]
calibration = 512
validation = 0.2
[[stage]]
kind = "quantize"
"""
ARMS = {"int8": "", "int8 with accuracy control": f"accuracy_drop = {DROP}\n"}


def train(windows: NDArray[np.float32], seed: int) -> Autoencoder:
    """Train the autoencoder to reconstruct the windows (N, 640)."""
    torch.manual_seed(seed)
    network, samples = Autoencoder(), torch.from_numpy(windows)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(samples)).split(BATCH):
            loss = ((network(samples[batch]) - samples[batch]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def judge(file: Path, windows: NDArray[np.float32], faulty: NDArray[np.int64], clip: NDArray[np.int64]) -> list[float]:
    """Return the area under the curve, in percent, of windows and of clips."""
    session = open_session("onnxruntime", file, 1)
    (rebuilt,) = session.run({session.inputs[0].name: windows}).values()
    scores = ((rebuilt - windows) ** 2).mean(1)
    count = np.bincount(clip)
    of_clips = np.bincount(clip, weights=scores) / count
    return [
        area_under_curve(scores, faulty),
        area_under_curve(of_clips, (np.bincount(clip, weights=faulty) / count).astype(np.int64)),
    ]


def one_seed(seed: int, folder: Path) -> dict[str, Any]:
    """Return the areas of the float file and of both arms, and what stays in float."""
    normal, _, first = clips(3 * seed, *TRAINED)
    deciding, kinds, second = clips(3 * seed + 1, *DECIDING)
    judged, faulty, clip = clips(3 * seed + 2, *JUDGED)
    numbers = [first, second + first[-1] + 1, clip + first[-1] + second[-1] + 2]
    np.savez(
        folder / "data.npz",
        spectrogram=np.concatenate([normal, deciding, judged]),
        targets=np.concatenate([np.zeros(len(normal), np.int64), kinds, faulty]),
        groups=np.concatenate(numbers),
        held_out=np.arange(len(normal) + len(deciding) + len(judged)) >= len(normal) + len(deciding),
    )
    torch.save(train(normal, seed), folder / "model.pt")
    (folder / "model.toml").write_text(SIDECAR, encoding="utf-8")
    found: dict[str, Any] = {"seed": seed}
    for arm, setting in ARMS.items():
        run = folder / arm.replace(" ", "-")
        (folder / "recipe.toml").write_text(RECIPE + setting, encoding="utf-8")
        command = [sys.executable, "-m", "edgekd", "compress", str(folder / "model.pt"), "--target", "generic-x86"]
        command += ["--recipe", str(folder / "recipe.toml"), "-o", str(run), "--json"]
        report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        (source,) = run.glob("onnx/baseline-*.onnx")
        found["fp32"] = judge(source, judged, faulty, clip)
        found[arm] = judge(run / "artifact" / "model.onnx", judged, faulty, clip)
        found[f"{arm}, edgekd's own report"] = report["final"]["figures"]["score"]["value"]
        found[f"{arm}, layers in float"] = len(
            report["stages"][-1].get("notes", {}).get("accuracy_drop", {}).get("layers_in_float", [])
        )
    return found


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    seeds = results["seeds"]
    lines = [
        "# Anomaly detection, int8 without training\n\n",
        f"Made by `python benchmarks/anomaly/run.py`: MLPerf Tiny's autoencoder on synthetic sounds of a motor, {len(seeds)} "
        f"seeds, {sum(TRAINED)} clips to train on, {sum(JUDGED)} to judge on, half of them faulty. Area under the ROC curve, "
        "0 to 1; mean over the seeds, and the largest drop of any seed. The reference's own int8 file loses 0.035.\n\n",
        "| file | AUC of clips | drop | largest drop | AUC of windows | drop | largest drop | layers in float |\n",
        "|---|---|---|---|---|---|---|---|\n",
    ]
    for arm in ("fp32", *ARMS):
        cells = [arm]
        for place in (1, 0):
            values = [seed[arm][place] / 100 for seed in seeds]
            drops = [(seed["fp32"][place] - seed[arm][place]) / 100 for seed in seeds]
            cells.append(f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
            cells += ["", ""] if arm == "fp32" else [f"{statistics.mean(drops):.4f}", f"{max(drops):.4f}"]
        kept = [seed.get(f"{arm}, layers in float", 0) for seed in seeds]
        cells.append("" if arm == "fp32" else ", ".join(map(str, kept)))
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def main() -> None:
    """Run all seeds and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    results: dict[str, Any] = {"machine": machine.to_dict(), "seeds": []}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            results["seeds"].append(one_seed(seed, Path(folder)))
        print(json.dumps(results["seeds"][-1]), flush=True)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
