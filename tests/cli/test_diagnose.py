import json
import shutil
from pathlib import Path

import pytest

from .conftest import Cli


def test_a_run_is_diagnosed_beside_what_it_quantized(cli: Cli, quantized: Path) -> None:
    outcome = cli("diagnose", quantized, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    layers = found["layers"]
    assert found["samples"] == 25 and found["notes"] == []
    assert sum(layer["noise"] for layer in layers) == pytest.approx(1)
    assert [layer["noise"] for layer in layers] == sorted((layer["noise"] for layer in layers), reverse=True)
    convolutions = [layer for layer in layers if layer["operator"] == "Conv"]
    assert convolutions and all(20 < layer["weight_sqnr_db"] < 60 for layer in convolutions)
    assert sum(layer["macs"] for layer in layers) == pytest.approx(1, abs=0.2)  # the stem stays in float
    assert all(layer["alone_sqnr_db"] > found["sqnr_db"] for layer in layers)
    assert all(layer["without_sqnr_db"] >= found["sqnr_db"] - 1 for layer in layers[:3])
    stem = next(one for one in found["kernels"] if one["reason"])
    assert (
        stem["operator"] == "Conv"
        and stem["reason"] == "it was left in float (fewer than 4 input channels: least_channels)"
    )
    assert sum(one["share"] for one in found["kernels"]) == pytest.approx(1)


def test_it_says_what_to_do_in_words(cli: Cli, quantized: Path) -> None:
    outcome = cli("diagnose", quantized / "artifact", "--layers", 2)
    assert outcome.code == 0, outcome.err
    assert "% in int8" in outcome.out and "more; --layers" in outcome.out and "left in float" in outcome.out


def test_a_file_alone_takes_its_reference(cli: Cli, model: Path, quantized: Path, data: Path) -> None:
    shutil.copy(quantized / "artifact/model.onnx", "int8.onnx")
    shutil.copy(model.parent / "model.toml", "model.toml")
    shutil.copy(data, "images.npz")
    outcome = cli("diagnose", "int8.onnx", "--json")
    assert outcome.code == 0, outcome.err
    alone = json.loads(outcome.out)
    assert "only the rounding of activations is seen" in alone["notes"][0]
    assert all(layer["weight_sqnr_db"] is None for layer in alone["layers"])
    beside = cli("diagnose", "int8.onnx", "--reference", model, "--json")
    assert beside.code == 0, beside.err
    found = json.loads(beside.out)
    assert found["notes"] == [] and any(layer["weight_sqnr_db"] for layer in found["layers"])
    assert abs(found["sqnr_db"] - alone["sqnr_db"]) > 1e-3


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("model", "is no ONNX file"),
        ("exported", "is fp32: diagnose takes .* integer activations"),
        ("nothing.onnx", "does not exist|cannot"),
    ],
)
def test_what_cannot_be_diagnosed_is_said(cli: Cli, model: Path, exported: Path, what: str, words: str) -> None:
    import re

    subject = {"model": model, "exported": exported}.get(what, Path(what))
    outcome = cli("diagnose", subject)
    assert outcome.code == 2 and re.search(words, outcome.err), outcome.err


def test_accuracy_drop_keeps_few_layers_in_float(cli: Cli, model: Path) -> None:
    outcome = cli(
        "quantize", model, "-t", "raspberry-pi-5", "-o", "run", "--calibrator", "min-max", "--metric", "agreement",
        "--accuracy-drop", 0,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    notes = next(
        stage["notes"]
        for stage in json.loads(Path("run/report.json").read_text())["stages"]
        if stage["name"] == "quantize"
    )
    assert notes["accuracy_drop"]["most"] == 0 and notes["accuracy_drop"]["reached"] >= 0
    outcome = cli("quantize", model, "-t", "raspberry-pi-5", "-o", "other", "--accuracy-drop", -1)
    assert outcome.code == 2


def test_a_missed_accuracy_drop_of_a_recipe_ends_with_1_and_keeps_the_best_file(cli: Cli, model: Path) -> None:
    stage = '[[stage]]\nkind = "quantize"\ncalibrators = ["percentile"]\npercentile = 51\nrounding = ["nearest"]\naccuracy_drop = 0\n'
    Path("recipe.toml").write_text(
        f'metric = "agreement"\n{stage}keep_float = []\nfloat_noise = 1\nbias_correction = false\n'
    )
    outcome = cli("compress", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml", "-o", "run")
    assert outcome.code == 1, outcome.err
    report = json.loads(Path("run/report.json").read_text())
    outcomes = {one["limit"]: one["outcome"] for one in report["budget"]}
    assert outcomes["quantize.accuracy_drop on validation"] == "fail"
    (said,) = [one for one in report["remarks"] if "is missed" in one]
    reached = report["stages"][1]["notes"]["accuracy_drop"]
    assert f"drops {reached['reached']:.3g} points" in said and f"{len(reached['layers_in_float'])} layer" in said
    assert said in outcome.out and Path("run/artifact/model.onnx").is_file()


def test_an_option_and_a_recipe_hold_the_accuracy_alike(cli: Cli, model: Path) -> None:
    Path("recipe.toml").write_text('[[stage]]\nkind = "quantize"\ncalibrators = ["min-max"]\naccuracy_drop = 0.5\n')
    asked = (model, "-t", "raspberry-pi-5", "-o", "run", "--metric", "agreement", "--json")
    by_recipe = cli("compress", *asked, "--recipe", "recipe.toml")
    by_option = cli("quantize", *asked, "--calibrator", "min-max", "--accuracy-drop", 0.5)
    one, other = json.loads(by_recipe.out), json.loads(by_option.out)
    assert by_recipe.code == by_option.code and one["budget"] == other["budget"] and len(one["budget"]) == 2
    assert one["remarks"] == other["remarks"]
    few = [remark for remark in one["remarks"] if "samples, of which one is worth" in remark]
    assert any("100 samples, of which one is worth 1 points" in remark for remark in few), one["remarks"]
