"""A whole report, and the page that is made of it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.report.page import render
from edgekd.verbs.report import gather

HERE = "ONNX Runtime, a processor, 1 thread"


def measured(value: float, unit: str, spread: float, samples: int) -> dict[str, Any]:
    return {
        "value": value,
        "unit": unit,
        "how": "measured",
        "on": HERE,
        "low": value - spread,
        "high": value + spread,
        "samples": samples,
    }


def figures(score: float, kb: float, macs: float, p50: float) -> dict[str, Any]:
    return {
        "score": measured(score, "%", 0.47, 10_000), "size_kb": {"value": kb, "unit": "kB", "how": "counted"},
        "macs": {"value": macs, "unit": "", "how": "counted"}, "parameters": {"value": kb * 250, "unit": "", "how": "counted"},
        "zeros": {"value": 0.01, "unit": "%", "how": "counted"}, "latency_p50_ms": measured(p50, "ms", 0.01 * p50, 3000),
        "latency_p95_ms": {"value": None, "unit": "ms", "reason": "30 calls are too few for p95"},
    }  # fmt: skip


def against(score: float, ratio: float, verdict: str) -> dict[str, Any]:
    return {"score": score, "speedup": {"ratio": ratio, "low": 0.98 * ratio, "high": 1.02 * ratio, "verdict": verdict}}


def stage(name: str, found: dict[str, Any], **comparisons: Any) -> dict[str, Any]:
    return {"name": name, "key": name * 4, "sha256": (name * 64)[:64], "notes": {}, "figures": found, **comparisons}


REASON = "this machine is no Raspberry Pi 5: copy the artifact there and run `python3 run.pyz profile`"
LAST = figures(93.47, 101.7, 3.7e6, 0.0612)
COMPARED = {"against_parent": against(-0.12, 1.9, "faster"), "against_baseline": against(-0.3, 5.3, "faster")}
REPORT: dict[str, Any] = {
    "schema": 1, "edgekd": "0.1.0", "model": {"name": "resnet8", "format": "module", "key": "k"}, "target": "raspberry-pi-5",
    "runtime": "onnxruntime", "recipe": {"name": "prune-distill-quantize", "stages": []},
    "data": {"origin": "Fashion-MNIST", "licence": "MIT", "sha256": "d" * 64, "parts": {"train": 100, "evaluation": 10_000}, "labelled": True},
    "metric": {"name": "accuracy", "unit": "%", "higher_is_better": True}, "host": {"cpu_model": "a processor", "cores": 2},
    "software": {"edgekd": "e" * 64, "torch": "2.13.0"},
    "stages": [
        stage("baseline", figures(93.77, 1233.9, 12.4e6, 0.328)),
        stage("prune", figures(71.2, 385.9, 3.7e6, 0.117), against_parent=against(-22.57, 2.8, "faster"), against_baseline=against(-22.57, 2.8, "faster")),
        stage("distill", figures(93.59, 385.9, 3.7e6, 0.118), against_parent=against(22.39, 0.99, "not distinguishable"), against_baseline=against(-0.18, 2.78, "faster")),
        stage("quantize", LAST, **COMPARED),
    ],
    "final": {"figures": LAST, **COMPARED},
    "on_target": {"latency_p50_ms": {"value": None, "unit": "ms", "reason": REASON}, "energy_mj": {"value": None, "unit": "mJ", "reason": REASON}},
    "arms": {name: {"value": None, "unit": "%", "reason": "not measured: ask with --arms"} for name in ("without-distillation", "from-scratch")},
    "parity": {"against": "distill", "samples": 512, "cosine": 0.9991}, "artifact": {"model.onnx": {"sha256": "a" * 64, "bytes": 101_700}},
    "budget": [
        {"limit": "accuracy_drop", "allowed": 0.2, "outcome": "fail", "figure": {"value": 0.3, "unit": "%", "how": "measured"}},
        {"limit": "energy_mj", "allowed": 50, "outcome": "not measured", "figure": {"value": None, "unit": "mJ", "reason": "no sensor"}},
    ],
    "remarks": ["int8 is slower: `edgekd diagnose` tells why"],
}  # fmt: skip


@pytest.fixture
def report() -> dict[str, Any]:
    """A report that a test may change."""
    return copy.deepcopy(REPORT)


Write = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write reports into a run directory and make its page; return the page's file, and what it is made of."""

    def written(*reports: dict[str, Any], evidence: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        content = reports[0] if len(reports) == 1 else {"schema": 1, "targets": reports}
        (run / "report.json").write_text(json.dumps(content), encoding="utf-8")
        gathered = gather(run, evidence, layers=False)
        page = run / "report.html"
        page.write_text(render(gathered), encoding="utf-8")
        return page, gathered.to_json()

    return written
