import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from .conftest import Cli


def test_a_model_takes_all_from_its_sidecar(cli: Cli, model: Path) -> None:
    outcome = cli("eval", model)
    assert outcome.code == 0, outcome.err
    assert "100 samples" in outcome.out and "95 % interval" in outcome.out and "Ankle boot" in outcome.out


def test_model_artifact_and_onnx_file_agree(cli: Cli, model: Path, exported: Path, data: Path) -> None:
    one = json.loads(cli("eval", model, "--json").out)
    two = json.loads(cli("eval", exported, "--data", data, "--json").out)
    Path("model.toml").write_text((model.parent / "model.toml").read_text())
    Path("model.onnx").write_bytes((exported / "artifact/model.onnx").read_bytes())
    three = json.loads(cli("eval", "model.onnx", "--data", data, "--json").out)
    for place in (exported, exported / "artifact"):  # a run knows its data
        assert json.loads(cli("eval", place, "--json").out) == {**two, "model": two["model"]}
    assert one["value"] == two["value"] == three["value"]
    assert one["classes"] == two["classes"] == three["classes"]
    assert (one["kind"], two["kind"], three["kind"]) == ("module", "artifact", "ONNX")
    assert (one["cut"], two["cut"]) == ("the default settings", str(exported / "report.json"))
    assert sum(entry["samples"] for entry in one["classes"]) == one["samples"] == 100


@pytest.mark.parametrize(("part", "samples"), [("evaluation", 100), ("validation", 25), ("all", 600)])
def test_parts(cli: Cli, model: Path, part: str, samples: int) -> None:
    assert json.loads(cli("eval", model, "--part", part, "--json").out)["samples"] == samples


def test_agreement_with_a_reference_needs_no_labels(cli: Cli, model: Path, quantized: Path, data: Path) -> None:
    with np.load(data) as arrays:
        np.savez("unlabelled.npz", x=arrays["image"][:64])
    options = ("--data", "unlabelled.npz", "--part", "all", "--json")
    outcome = cli("eval", quantized, *options)
    assert outcome.code == 2 and "no labels" in outcome.err and "--reference" in outcome.err
    found = json.loads(cli("eval", quantized, "--reference", model, *options).out)
    assert found["metric"] == "agreement" and found["value"] > 90 and found["classes"] == []
    noise = json.loads(cli("eval", quantized, "--reference", model, "--metric", "sqnr", *options).out)
    assert noise["unit"] == "dB" and noise["low"] is None


def test_a_metric_of_ones_own(cli: Cli, model: Path) -> None:
    Path("scores.py").write_text("def top3(outputs, targets):\n    return 42.0\n")
    outcome = cli("eval", model, "--metric", "scores:top3")
    assert "scores:top3 42" in outcome.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data", "nowhere"), "no data 'nowhere'"),
        (("--metric", "agreement"), "--reference"),
        (("--metric", "goodness"), "unknown metric"),
        (("--reference", "none.pt"), "none.pt does not exist"),
    ],
)
def test_bad_input(cli: Cli, model: Path, options: tuple[str, ...], words: str) -> None:
    outcome = cli("eval", model, *options)
    assert outcome.code == 2 and words in outcome.err and not outcome.out


def test_data_of_another_shape(cli: Cli, exported: Path) -> None:
    np.savez("wide.npz", x=np.zeros((8, 1, 28, 30), np.uint8), y=np.arange(8))
    outcome = cli("eval", exported, "--data", "wide.npz", "--part", "all")
    assert outcome.code == 2 and "(N, 1, 28, 28)" in outcome.err.replace("'", "")


def test_an_artifact_alone_names_no_data(cli: Cli, exported: Path) -> None:
    shutil.copytree(exported / "artifact", "copied")
    outcome = cli("eval", "copied")
    assert outcome.code == 2 and "give --data" in outcome.err
