"""Int8 of an ImageNet network against two other tools: `python benchmarks/efficientnet_lite0/run.py`.

EfficientNet-Lite0 without training, on crops of real photographs; examples/efficientnet_lite0/prepare.py says what to
install first. Three tools write int8 files from the same float ONNX file and the same calibration crops, each in a
process of its own, the other two in virtual environments of their own that this script makes:

- edgekd: the command line, with `recipe.toml`;
- ONNX Runtime's quantizer: all twenty configurations of `write_onnxruntime.py`;
- NNCF: `nncf.quantize` as it comes, and with all calibration crops, in `write_nncf.py`.

Then all files run in one process on the same evaluation crops, whose photographs occur in no other part of the data:
share of equal decisions (top-1) and output signal-to-noise ratio, both against the float network. The interval of a
difference is a bootstrap that draws whole photographs, because crops of one photograph resemble each other. Last,
latency: one thread, batch 1, in interleaved rounds.

Writes `results.json` and `results.md` beside this script. Everything else goes to `--work`, where a second run finds it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.data import Parts, load_dataset, split
from edgekd.device.machine import read_machine, warnings
from edgekd.evaluate import run_onnx
from edgekd.host import time_files
from edgekd.metrics import agreement, signal_to_noise
from edgekd.models.signature import Signature, read_sidecar
from edgekd.recipe import load_recipe
from edgekd.stages import KINDS

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PREPARE = ROOT / "examples" / "efficientnet_lite0" / "prepare.py"
ENVIRONMENTS = {
    "onnxruntime": ["onnxruntime==1.31.1", "onnx==1.23.2", "ml_dtypes==0.6.0"],
    "nncf": ["nncf==3.4.0", "openvino==2026.4.1", "onnx==1.23.2", "onnxruntime==1.31.1"],
}
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}  # no tool sends anything
DRAWS = 10_000

Array = NDArray[Any]


def call(command: list[str], threads: int) -> float:
    """Run a command; return its wall time in seconds."""
    start = time.monotonic()
    environment = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def python_of(work: Path, name: str) -> str:
    """Return the interpreter of a tool's own environment, made with pip where it is not there yet."""
    packages = ENVIRONMENTS[name]
    folder = work / f"venv-{name}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:8]}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / "complete").exists():
        print(f"making the environment of {name}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "complete").touch()
    return str(python)


def write_files(work: Path, data: Path, threads: int) -> tuple[dict[str, Path], dict[str, float], Parts, Signature]:
    """Let every tool write its files; return the files by name, the seconds they took, the data and the signature."""
    recipe_file = HERE / "recipe.toml"
    model = data / "efficientnet_lite0.pt2"
    photographs = data / "photographs.npz"
    run = work / "edgekd"
    command = [sys.executable, "-m", "edgekd", "compress", str(model), "--target", "raspberry-pi-5", "--threads"]
    command += [str(threads), "--recipe", str(recipe_file), "--data", str(photographs), "-o", str(run), "--json"]
    print("edgekd", flush=True)
    seconds = {"edgekd": call([*command, "--no-resume"], threads)}
    (source,) = run.glob("onnx/baseline-*.onnx")

    sidecar = read_sidecar(model)
    assert sidecar.inputs is not None
    signature = Signature(inputs=sidecar.inputs, preprocessing=sidecar.preprocessing)
    cut = load_recipe(recipe_file, KINDS).data
    parts = split(
        load_dataset(photographs, signature),
        signature,
        calibration=cut.calibration,
        validation=cut.validation,
        evaluation=cut.evaluation,
    )
    crops = parts.calibration.inputs()[signature.inputs[0].name]
    np.save(work / "calibration.npy", crops)
    files = {"fp32": source, "edgekd": run / "artifact" / "model.onnx"}
    for name in ENVIRONMENTS:
        script = HERE / f"write_{name}.py"
        key = hashlib.sha256(source.read_bytes() + crops.tobytes() + script.read_bytes()).hexdigest()
        folder, stamp = work / name, work / f"{name}.json"
        made = json.loads(stamp.read_text()) if stamp.exists() else {}
        if made.get("key") != key:
            python = python_of(work, name)
            print(name, flush=True)
            took = call([python, str(script), str(source), str(work / "calibration.npy"), str(folder)], threads)
            made = {"key": key, "seconds": took}
            stamp.write_text(json.dumps(made))
        seconds[name] = made["seconds"]
        files |= {f"{name} {path.stem.replace('_', ' ')}": path for path in sorted(folder.glob("*.onnx"))}
    return files, seconds, parts, signature


class Judge:
    """Compares files with the float network, and edgekd's with the others, on the same crops."""

    def __init__(self, reference: Array, photographs: Array) -> None:
        self._reference = reference
        names, self._of = np.unique(photographs, return_inverse=True)
        random = np.random.default_rng(0)
        drawn = random.integers(0, len(names), (DRAWS, len(names)))
        self._times = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])  # of each photograph

    def score(self, outputs: Array) -> dict[str, float]:
        """Return agreement in percent and signal-to-noise ratio in dB."""
        return {
            "agreement": agreement(outputs, self._reference),
            "sqnr": signal_to_noise(outputs, self._reference),
        }

    def compare(self, ours: Array, theirs: Array) -> dict[str, tuple[float, float, float]]:
        """Return ours minus theirs with the ends of the 95 % interval, for both scores."""
        equal = [self._sums(one.argmax(1) == self._reference.argmax(1)) for one in (ours, theirs)]
        noise = [self._sums(((one.astype(np.float64) - self._reference) ** 2).sum(1)) for one in (ours, theirs)]
        counts = self._times @ np.bincount(self._of)
        agreements = 100 * (self._times @ (equal[0] - equal[1])) / counts
        ratios = 10 * np.log10((self._times @ noise[1]) / (self._times @ noise[0]))
        whole = 100 * (equal[0] - equal[1]).sum() / len(self._of), 10 * np.log10(noise[1].sum() / noise[0].sum())
        return {
            name: (float(value), *(float(end) for end in np.quantile(draws, (0.025, 0.975))))  # type: ignore[misc]
            for name, value, draws in zip(("agreement", "sqnr"), whole, (agreements, ratios), strict=True)
        }

    def _sums(self, values: Array) -> Array:
        return np.bincount(self._of, weights=values)


def measure(files: dict[str, Path], parts: Parts, signature: Signature, threads: int) -> dict[str, Any]:
    """Judge all files on the evaluation part and time the best ones."""
    part = parts.evaluation
    photographs = part.dataset.groups
    assert photographs is not None
    outputs: dict[str, Array] = {}
    for name, path in files.items():
        (outputs[name],) = run_onnx(path, part, threads).values()
    judge = Judge(outputs["fp32"], photographs[part.indices])
    rows: dict[str, dict[str, Any]] = {}
    for name, path in files.items():
        rows[name] = {"kb": path.stat().st_size / 1000, **judge.score(outputs[name])}
        if name not in ("fp32", "edgekd"):
            rows[name]["edgekd_minus_this"] = judge.compare(outputs["edgekd"], outputs[name])
        print(f"{name}: {rows[name]['agreement']:.2f} %, {rows[name]['sqnr']:.2f} dB", flush=True)
    tools = ("onnxruntime", "nncf")
    best = {max((n for n in rows if n.startswith(tool)), key=lambda n: rows[n][by]) for tool in tools for by in rows["fp32"] if by != "kb"}  # fmt: skip
    timed = {name: path for name, path in files.items() if name in {"fp32", "edgekd", "nncf default", *best}}
    session = time_files(timed, "onnxruntime", signature, 1)
    for name in timed:
        rows[name]["latency"] = session.latency(name).to_dict()
        found = session.comparison("fp32", name)
        rows[name]["speedup"] = (found.speedup, found.speedup_low, found.speedup_high)
    return {
        "rows": rows,
        "parts": parts.sizes(),
        "photographs": {
            name: sorted({str(group) for group in photographs[getattr(parts, name).indices]})
            for name in ("calibration", "validation", "evaluation")
        },
    }


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    machine, rows, parts, seconds = (results[name] for name in ("machine", "rows", "parts", "seconds"))
    count = {name: len(names) for name, names in results["photographs"].items()}
    lines = [
        "# EfficientNet-Lite0, int8 without training\n\n",
        "Made by `python benchmarks/efficientnet_lite0/run.py`. Agreement is the share of crops whose top-1 class is the float "
        "network's; SQNR is 10 log10(sum of squared logits / sum of squared errors). Both over "
        f"{parts['evaluation']} crops of {count['evaluation']} photographs; calibration: {parts['calibration']} crops of "
        f"{count['calibration']} others; validation, which only edgekd uses: {parts['validation']} of {count['validation']}. "
        f"Differences: edgekd minus the other, with 95 % intervals ({DRAWS:,} draws of whole photographs). Latency: ONNX "
        "Runtime, one thread, batch 1, interleaved, of the files named in the text and the best of each tool, measured on "
        f"{machine['cpu_model']} ({machine['int8_isa']}, {machine['cores']} cores, load {machine['load_1min']}, "
        f"{machine['time_utc'][:10]}); nothing here is a figure of a board.\n\n",
        "| file | agreement | edgekd is better by, points | SQNR, dB | edgekd is better by, dB | kB | p50, ms | faster than fp32 |\n",
        "|---|---|---|---|---|---|---|---|\n",
    ]
    order = sorted(rows, key=lambda name: (name != "fp32", -rows[name]["sqnr"]))
    for name in order:
        row = rows[name]
        cells = [name, f"{row['agreement']:.2f} %", "", f"{row['sqnr']:.2f}" if name != "fp32" else "", "", f"{row['kb']:,.0f}", "", ""]  # fmt: skip
        if "edgekd_minus_this" in row:
            for cell, score in ((2, "agreement"), (4, "sqnr")):
                cells[cell] = "{:+.2f} ({:+.2f} to {:+.2f})".format(*row["edgekd_minus_this"][score])
        if "latency" in row:
            cells[6] = f"{row['latency']['p50_ms']:.3f}"
            cells[7] = "" if name == "fp32" else "{:.2f} ({:.2f} to {:.2f})".format(*row["speedup"])
        lines.append(f"| {' | '.join(cells)} |\n")
    lines.append(
        f"\nWall time with {results['threads']} threads: edgekd compress {seconds['edgekd']:.0f} s, with its measurements; "
        f"ONNX Runtime, five calibrations and twenty files, {seconds['onnxruntime']:.0f} s; NNCF, two files, "
        f"{seconds['nncf']:.0f} s.\n"
    )
    return "".join(lines)


def main() -> None:
    """Write all files, measure them, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "efficientnet_lite0", help="environments and files (%(default)s)"
    )
    parser.add_argument("--data", type=Path, help="folder that prepare.py wrote (default: it is run, into --work)")
    parser.add_argument(
        "--mate", type=Path, default=Path("/"), help="where mate-backgrounds was unpacked; for prepare.py"
    )
    parser.add_argument("--threads", type=int, default=2, help="for everything but latency (%(default)s)")
    arguments = parser.parse_args()
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = arguments.data
    if data is None:
        data = work / "data"
        call([sys.executable, str(PREPARE), "-o", str(data), "--mate", str(arguments.mate)], arguments.threads)
    files, seconds, parts, signature = write_files(work, data.resolve(), arguments.threads)
    results = {
        "machine": machine.to_dict(),
        "threads": arguments.threads,
        "environments": ENVIRONMENTS,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        **measure(files, parts, signature, arguments.threads),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
