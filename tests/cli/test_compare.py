import json
from pathlib import Path

import pytest

from .conftest import Cli

SHORT = ("--duration", "0.5")


def test_one_against_another(cli: Cli, exported: Path, quantized: Path) -> None:
    outcome = cli("compare", quantized, exported, *SHORT)
    assert outcome.code == 0 and outcome.out.count("95 % interval") == 3 and f"{quantized} is " in outcome.out
    found = json.loads(cli("compare", exported, exported, "--json", *SHORT).out)
    assert found["comparison"]["verdict"] in ("faster", "slower", "not distinguishable")
    assert found["candidate"]["path"] == str(exported) and found["baseline"]["figures_ms"]["cpu-time"]["value"] > 0
    speedup = found["comparison"]["speedups"]["latency-p50"]
    assert speedup["low"] <= speedup["speedup"] <= speedup["high"] and found["comparison"]["launches"] == 10


def test_each_in_a_runtime_of_its_own(cli: Cli, exported: Path) -> None:
    assert "known: onnxruntime" in cli("compare", exported, exported, "--baseline-runtime", "abacus", *SHORT).err
    pytest.importorskip("openvino")
    found = json.loads(cli("compare", exported, exported, "--baseline-runtime", "openvino", "--json", *SHORT).out)
    runtimes = [found[role]["session"]["runtime"] for role in ("candidate", "baseline")]
    assert runtimes == ["onnxruntime", "openvino"]


def test_what_cannot_be_compared_is_said(cli: Cli, exported: Path, model: Path) -> None:
    for other, words in (("none", "none"), (model, "edgekd export")):
        outcome = cli("compare", exported, other)
        assert outcome.code == 2 and words in outcome.err
