"""How often does the gate cry wolf, and how often does it miss a real slowdown, while other work runs on both cores?

```sh
python benchmarks/gate/run.py --minutes 9      # goes on where the last call stopped; results.json and results.md are written
```
A comparison is one `edgekd gate` against a baseline: in turns (the older artifact itself) or stored (figures that were measured once,
on the quiet machine). Of two models, float32 and int8, each is compared with itself and with a copy that takes 10 % longer.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from slower import write_variants

from edgekd.device.comparison import interleave
from edgekd.device.files import sha256_of
from edgekd.device.gate.budget import Budget
from edgekd.device.gate.gate import gate, update_baseline
from edgekd.device.gate.rounds import GateSettings, measure_round
from edgekd.device.launches.subject import Subject, subject_of
from edgekd.device.runtimes import open_session
from edgekd.files import write_json

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "examples/fashion_mnist/model.pt"
MODELS = {"fp32": ("export",), "int8": ("quantize", "--calibrator", "min-max")}
REPETITIONS, COMPARISONS = 3, 100
SETTINGS = GateSettings(duration_s=0.9, launches=3, confirm=2, counter="none", sensor="none", shared=True)
CALIBRATION = GateSettings(duration_s=12.0, launches=12, counter="none", sensor="none", shared=True)
SLOWER = 1.10


def main() -> None:
    """Do what is left to do, for as long as it may take."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="no comparison begins after so many minutes")
    parser.add_argument("--work", type=Path, default=Path("gate-benchmark"), help="where the models are kept")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--forms", default="in turns,stored")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    results = json.loads(options.results.read_text()) if options.results.exists() else {"models": {}, "comparisons": []}
    results["settings"] = {name: getattr(SETTINGS, name) for name in ("duration_s", "launches", "confirm", "threads")}
    subjects = {name: _subjects(name, options.work, results) for name in MODELS}
    write_json(options.results, results)
    with _load():
        for form, repetition, number, name, case in _left(results, options.forms.split(",")):
            if time.monotonic() > until:
                break
            results["comparisons"].append(
                {"form": form, "repetition": repetition, "number": number, "model": name, "case": case}
                | _compare(form, subjects[name], case, options.work / f"{name}-baseline.json", number)
            )
            write_json(options.results, results)
    from report import report

    options.results.with_suffix(".md").write_text(report(results))
    print(
        f"{len(results['comparisons'])} comparisons so far, {len(list(_left(results, options.forms.split(','))))} left"
    )


def _left(results: dict[str, Any], forms: list[str]) -> Iterator[tuple[str, int, int, str, str]]:
    """Return the comparisons that are still to be made; the two models take turns."""
    done = {tuple(one[key] for key in ("form", "repetition", "number", "case")) for one in results["comparisons"]}
    for repetition in range(REPETITIONS):
        for form in forms:
            for number in range(COMPARISONS):
                for case in ("same", "slower"):
                    if (form, repetition, number, case) not in done:
                        yield form, repetition, number, list(MODELS)[number % 2], case


def _compare(form: str, subjects: dict[str, Subject], case: str, stored: Path, number: int) -> dict[str, Any]:
    """Return the exit code of one gate, how many rounds it took, and the ratios that it found."""
    started = time.monotonic()
    settings = replace(SETTINGS, seed=number)
    baseline = {"older": subjects["same"]} if form == "in turns" else {"stored": stored}
    # only time gates here: the copy's file is larger, which the gate would find as well
    result = gate(replace(subjects[case], bytes=subjects["same"].bytes), Budget(), settings, **baseline)
    ratios = {one["figure"]: one["ratio"]["value"] for one in result["checks"] if one["ratio"]["value"] is not None}
    return {
        "exit_code": result["exit_code"],
        "outcomes": {one["figure"]: one["outcome"] for one in result["checks"] if one["gates"]},
        "rounds": len(result["rounds"]),
        "ratios": {name: round(value, 4) for name, value in ratios.items()},
        "seconds": round(time.monotonic() - started, 2),
    }


def _subjects(name: str, work: Path, results: dict[str, Any]) -> dict[str, Subject]:
    """Return the model and its slower copy, made and measured on the quiet machine where they are not there yet."""
    run = work / name
    if not (run / "artifact").is_dir():
        command, *more = MODELS[name]
        arguments = [command, str(MODEL), "--target", "generic-x86", *more, "-o", str(run)]
        subprocess.run([sys.executable, "-m", "edgekd", *arguments], check=True)
    same = subject_of(run / "artifact")
    known = results["models"].get(name)
    if known is None or not (work / known["file"]).exists():
        known = results["models"][name] = _calibrate(name, same, work)
    file = work / known["file"]
    slower = replace(same, file=file, folder=None, sha256=sha256_of(file), bytes=file.stat().st_size)
    stored = work / f"{name}-baseline.json"
    if not stored.exists():
        update_baseline(same, stored, replace(CALIBRATION, confirm=0))
    return {"same": same, "slower": slower}


def _calibrate(name: str, same: Subject, work: Path) -> dict[str, Any]:
    """Choose the copy whose time is nearest to the wanted one, and measure it anew."""
    files = write_variants(same.file, work, name)
    runs = {str(file): _call(file, same) for file in (same.file, *files)}
    timed = interleave(runs, blocks=40, block_ms=10.0, duration_s=90.0, warmup_s=0.3)
    base = timed.blocks_ms[str(same.file)]
    ratios = {
        file: float(
            np.median([np.median(a) / np.median(b) for a, b in zip(timed.blocks_ms[str(file)], base, strict=True)])
        )
        for file in files
    }
    nearest = sorted(files, key=lambda file: abs(ratios[file] - SLOWER))[:3]
    found = {}
    for file in nearest:
        slower = replace(same, file=file, folder=None)
        evidence = measure_round({"candidate": slower, "baseline": same}, CALIBRATION, energy=False)
        found[file] = {
            figure: evidence.ratio(figure).to_dict() for figure in ("latency-p50", "cpu-time", "latency-min")
        }
    best = min(nearest, key=lambda file: abs(found[file]["latency-p50"]["value"] - SLOWER))
    return {"file": best.name, "ratio": found[best]}


def _call(file: Path, same: Subject) -> Any:
    session = open_session(same.runtime, file, 1)
    return lambda: session.run(same.feeds)


@contextmanager
def _load() -> Iterator[None]:
    """Run a busy process on each core."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, str(HERE / "load.py")]
    busy = [subprocess.Popen([*command, str(core), str(int(time.time()) + core)]) for core in cores]
    try:
        yield
    finally:
        for process in busy:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
