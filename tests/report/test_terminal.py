import io
from pathlib import Path
from typing import Any

import pytest

from edgekd.report import console, terminal
from edgekd.verbs.compress import Result


def figures(score: float, p50: float, p95: float | None) -> dict[str, Any]:
    spread = {"low": 0.98 * p50, "high": 1.02 * p50}
    slow = {"value": None, "reason": "30 calls"} if p95 is None else {"value": p95, "low": 0.9 * p95, "high": 1.1 * p95}
    return {
        "score": {"value": score, "unit": "%"}, "size_kb": {"value": 1233.9}, "macs": {"value": 1234.5e6}, "zeros": {"value": 0.1},
        "latency_p50_ms": {"value": p50, "on": "ONNX Runtime, here", **spread}, "latency_p95_ms": slow,
    }  # fmt: skip


def speedup(ratio: float, verdict: str) -> dict[str, Any]:
    return {"score": -0.254, "speedup": {"ratio": ratio, "low": ratio - 0.05, "high": ratio + 0.05, "verdict": verdict}}


REPORT = {
    "model": {"name": "model"}, "target": "jetson-orin-nano-super", "runtime": "onnxruntime",
    "metric": {"name": "agreement", "unit": "%"}, "recipe": {"export": {"input": "float32"}, "stages": []},
    "stages": [
        {"name": "baseline", "figures": figures(93.77, 1.332, 1.498)},
        {"name": "distill-2", "figures": figures(93.6, 123.4, None), "against_baseline": speedup(1.02, "not distinguishable"),
         "against_parent": {"score": 0.0, "speedup": {"ratio": 1.0, "verdict": "the same file"}}},
        {"name": "quantize", "figures": figures(93.5, 0.063, 0.071), "against_baseline": speedup(15.27, "faster"),
         "against_parent": speedup(0.91, "slower")},
    ],
    "final": {"figures": figures(93.5, 0.063, 0.071)}, "on_target": {}, "arms": {}, "remarks": ["int8 is slower"],
}  # fmt: skip


def shown(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    file = io.StringIO()
    monkeypatch.setattr(terminal, "results", console._Plain(file=file, width=width, highlight=False))
    terminal.show(Result(Path("artifact"), REPORT, ()))
    return file.getvalue()


@pytest.mark.parametrize("width", [100, 120, 10_000])
def test_every_latency_and_ratio_has_its_interval(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(width, monkeypatch)
    for words in (
        "1.332", "1.305 to 1.359", "1.498", "1.348 to 1.648", "too few calls", "120.9 to 125.9",  # p50 and p95
        "15.27x", "15.22 to 15.32", "0.91x", "0.86 to 0.96", "~1.02x", "0.97 to 1.07", "the same file",  # ratios
        "93.50", "-0.25", "1,233.9", "1234.50 M", "~ not distinguishable", "remark: int8 is slower",
    ):  # fmt: skip
        assert words in text, words
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100


@pytest.mark.parametrize(
    ("figure", "words"), [({"value": 70.004}, "70.00 %"), ({"value": None, "reason": "packed"}, "packed")]
)
def test_zeros_are_shown_where_weights_were_masked(
    figure: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "zeros" not in shown(100, monkeypatch)
    monkeypatch.setitem(REPORT["recipe"], "stages", [{"kind": "mask"}])  # type: ignore[arg-type]
    monkeypatch.setitem(REPORT["final"]["figures"], "zeros", figure)  # type: ignore[index]
    assert f"zeros among the weights of the final file: {words}" in shown(100, monkeypatch)


def test_zeros_are_shown_where_the_given_network_was_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPORT["stages"][0]["figures"], "zeros", {"value": 70.0})  # type: ignore[index]
    monkeypatch.setitem(REPORT["final"]["figures"], "zeros", {"value": 71.25})  # type: ignore[index]
    assert "zeros among the weights of the final file: 71.25 %" in shown(100, monkeypatch)


def test_no_sign_is_explained_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPORT, "stages", [REPORT["stages"][0]])  # type: ignore[index]
    assert "~" not in shown(100, monkeypatch)
