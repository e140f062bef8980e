"""Int8 without training against four other tools: `python benchmarks/quantization/run.py`.

On six networks (`subjects.py`), edgekd's command line with `recipe.toml` and four tools write int8 files from the same
float ONNX file and the same calibration samples, each tool in a virtual environment that this script makes:

- ONNX Runtime's quantizer: twenty static configurations and the dynamic one;
- NNCF: `nncf.quantize` as it comes, and four configurations with all samples;
- NVIDIA Model Optimizer's ONNX quantizer: both calibrations;
- torchao: its own quantizer for x86, exported by torch.

Then all files run in one process on the same evaluation samples: accuracy where there are labels, share of equal
decisions and output signal-to-noise ratio against the float network. A tool is represented by its best file, picked on
the evaluation samples themselves, which flatters it; edgekd has one file, picked on its validation part. Last, latency
of these files: one thread, batch 1, in interleaved rounds.

Needs Debian's dataset-fashion-mnist, and what examples/efficientnet_lite0/prepare.py names. Writes `results.json` and
`results.md` beside this script. Everything else goes to `--work`, where a second run finds it.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from judge import DRAWS, Array, Judge
from peers import PIP, call, write_files
from subjects import ROOT, SUBJECTS, make

from edgekd.data import Parts, load_dataset, split
from edgekd.device.machine import read_machine, warnings
from edgekd.evaluate import run_onnx
from edgekd.host import time_files
from edgekd.models.signature import Signature, TensorSpec, read_sidecar
from edgekd.recipe import load_recipe
from edgekd.stages import KINDS

HERE = Path(__file__).parent
RECIPE = HERE / "recipe.toml"


def subject_files(
    name: str, work: Path, mate: Path, threads: int
) -> tuple[dict[str, Path], dict[str, float | None], Parts, Signature]:
    """Let every tool write its files of one network; return them, the seconds they took, the data and the signature."""
    model = make(name, work / name / "subject", mate)
    run, data = work / name / "edgekd", model.parent / "data.npz"
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "edgekd", "compress", str(model), "--target", "generic-x86", "--threads"]
    command += [str(threads), "--recipe", str(RECIPE), "--data", str(data), "-o", str(run), "--json"]
    print(f"{name}\n  edgekd", flush=True)
    seconds: dict[str, float | None] = {"edgekd": call(command, threads, work / name / "edgekd.log")}
    (source,) = run.glob("onnx/baseline-*.onnx")

    sidecar = read_sidecar(model)
    inputs: tuple[TensorSpec, ...] = sidecar.inputs or ()
    signature = Signature(inputs=inputs, preprocessing=sidecar.preprocessing, task="classification")
    cut = load_recipe(RECIPE, KINDS).data
    parts = split(
        load_dataset(data, signature),
        signature,
        calibration=cut.calibration,
        validation=cut.validation,
        evaluation=cut.evaluation,
    )
    samples = work / name / "calibration.npy"
    np.save(samples, parts.calibration.inputs()[signature.inputs[0].name])
    files = {"fp32": source, "edgekd": run / "artifact" / "model.onnx"}
    for tool in PIP:
        found, seconds[tool] = write_files(
            tool, source, samples, model.parent / "network.pt2", work / name / tool, work / "environments", threads
        )
        files |= found
    return files, seconds, parts, signature


def measure(files: dict[str, Path], parts: Parts, signature: Signature, threads: int) -> dict[str, Any]:
    """Judge all files of a network on the evaluation part; time edgekd's and the best of each tool."""
    part = parts.evaluation
    outputs: dict[str, Array] = {}
    failed = {}
    for name, path in files.items():
        try:
            (outputs[name],) = run_onnx(path, part, threads).values()
        except Exception as error:  # whatever the runtime says of a file that another tool wrote
            failed[name] = str(error).splitlines()[0][:200]
    groups = part.dataset.groups
    judge = Judge(outputs["fp32"], None if groups is None else groups[part.indices], part.targets_at())
    rows: dict[str, dict[str, Any]] = {}
    for name in outputs:
        rows[name] = {"kb": files[name].stat().st_size / 1000, **judge.score(outputs[name])}
        if name not in ("fp32", "edgekd"):
            rows[name]["edgekd_minus_this"] = judge.compare(outputs["edgekd"], outputs[name])
    rows["edgekd"]["edgekd_minus_fp32"] = judge.compare(outputs["edgekd"], outputs["fp32"])
    scores = [score for score in ("accuracy", "agreement", "sqnr") if score in rows["fp32"]]
    of_tool = {tool: [name for name in rows if name.startswith(f"{tool} ")] for tool in PIP}
    best = {max(names, key=lambda n: rows[n][score]) for names in of_tool.values() if names for score in scores}
    timed = {name: path for name, path in files.items() if name in {"fp32", "edgekd", *best}}
    session = time_files(timed, "onnxruntime", signature, 1)
    for name in timed:
        rows[name]["latency"] = session.latency(name).to_dict()
        found = session.comparison(name, "edgekd")
        rows[name]["edgekd_faster"] = (found.speedup, found.speedup_low, found.speedup_high)
    return {"rows": rows, "failed": failed, "parts": parts.sizes()}


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    machine = results["machine"]
    lines = [
        "# Int8 without training\n\n",
        "Made by `python benchmarks/quantization/run.py`, which says how. Of every tool the files that are best by one of the "
        f"scores; the others are in `results.json`. Differences: edgekd minus the other, 95 % intervals ({DRAWS:,} draws of "
        "samples, or of whole photographs). *faster*: the other's time over edgekd's; 1.1 means that edgekd's file runs "
        f"1.1 times as fast. Latency: ONNX Runtime, one thread, batch 1, interleaved, measured on {machine['cpu_model']} "
        f"({machine['int8_isa']}, {machine['cores']} cores, load {machine['load_1min']}, {machine['time_utc'][:10]}); "
        "nothing here is a figure of a board.\n",
    ]
    for name, found in results["networks"].items():
        lines += ["\n", *_network(name, found)]
    return "".join(lines)


def _network(name: str, found: dict[str, Any]) -> list[str]:
    rows, parts = found["rows"], found["parts"]
    timed = {key: row for key, row in rows.items() if "latency" in row}
    lines = [
        f"## {name}\n\n",
        f"{parts['evaluation']:,} samples for the evaluation, {parts['calibration']:,} for calibration; validation, which "
        f"only edgekd uses: {parts['validation']:,}.\n\n",
        "| file | accuracy | edgekd better by, points | agreement | by, points | SQNR, dB | by, dB | kB | p50, ms | edgekd faster |\n",
        "|---|---|---|---|---|---|---|---|---|---|\n",
    ]
    for key in sorted(timed, key=lambda one: (one != "fp32", one != "edgekd", -rows[one]["sqnr"])):
        row = timed[key]
        gains = row.get("edgekd_minus_this", row.get("edgekd_minus_fp32", {}))
        cells = [key]
        for score, unit in (("accuracy", " %"), ("agreement", " %"), ("sqnr", "")):
            shown = score in row and not (key == "fp32" and score != "accuracy")
            cells.append(f"{row[score]:.2f}{unit}" if shown else "")
            compared = score in gains and (key != "edgekd" or score == "accuracy")
            cells.append("{:+.2f} ({:+.2f} to {:+.2f})".format(*gains[score]) if compared else "")
        if key == "edgekd" and cells[2]:
            cells[2] += " than fp32"
        faster = "" if key == "edgekd" else _ratio(*row["edgekd_faster"])
        cells += [f"{row['kb']:,.0f}", f"{row['latency']['p50_ms']:.4f}", faster]
        lines.append(f"| {' | '.join(cells)} |\n")
    took = [f"{tool} {value:.0f} s" for tool, value in found["seconds"].items() if value is not None]
    lines.append(f"\nWall time: {', '.join(took)} (edgekd with its measurements; the others with all their files).\n")
    broken = [tool for tool, value in found["seconds"].items() if value is None]
    if broken or found["failed"]:
        lines.append(f"No file: {', '.join(broken) or 'none'}; does not run: {', '.join(found['failed']) or 'none'}.\n")
    return lines


def _ratio(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


def main() -> None:
    """Write all files, measure them, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "quantization", help="environments and files (%(default)s)"
    )
    parser.add_argument(
        "--mate", type=Path, default=Path("/"), help="where mate-backgrounds was unpacked; for prepare.py"
    )
    parser.add_argument("--only", action="append", choices=SUBJECTS, help="this network; the others' results stay")
    parser.add_argument("--threads", type=int, default=2, help="for everything but latency (%(default)s)")
    arguments = parser.parse_args()
    machine = read_machine()
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)
    work = arguments.work.resolve()
    kept = HERE / "results.json"
    networks = json.loads(kept.read_text())["networks"] if arguments.only and kept.exists() else {}
    for name in arguments.only or SUBJECTS:
        files, seconds, parts, signature = subject_files(name, work, arguments.mate, arguments.threads)
        networks[name] = {"seconds": seconds, **measure(files, parts, signature, arguments.threads)}
        results = {
            "machine": machine.to_dict(),
            "threads": arguments.threads,
            "environments": PIP,
            "networks": {one: networks[one] for one in SUBJECTS if one in networks},
        }
        kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (HERE / "results.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
