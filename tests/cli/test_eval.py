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


def test_samples_without_a_label_are_not_judged(cli: Cli, model: Path, data: Path) -> None:
    with np.load(data) as arrays:
        images, labels = arrays["image"][:64], arrays["y"][:64].astype(np.int64)
    some = np.where(np.arange(64) % 2, labels, -1)
    for name, targets in (("some", some), ("none", np.full(64, -1))):
        np.savez(f"{name}.npz", x=images, y=targets)
    np.savez("half.npz", x=images[1::2], y=labels[1::2])
    found, alone = (
        json.loads(
            cli("eval", model, "--data", f"{name}.npz", "--part", "all", "--also", f"o={name}.npz", "--json").out
        )
        for name in ("some", "half")
    )
    assert found["samples"] == found["out_of_domain"][0]["samples"] == 32
    for field in ("value", "low", "high", "classes"):
        assert found[field] == alone[field]
    outcome = cli("eval", model, "--data", "none.npz", "--part", "all")
    assert outcome.code == 2 and "no sample has a label" in outcome.err


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


def night(data: Path, name: str, count: int = 40, **other: object) -> str:
    """Return a further data set: the first images, darker."""
    with np.load(data) as arrays:
        np.savez(name, **{"image": arrays["image"][:count] // 4, "y": arrays["y"][:count], **other})
    return name


def test_further_data_sets_are_scored_whole(cli: Cli, model: Path, data: Path) -> None:
    options = ("--also", f"night={night(data, 'night.npz')}", "--also", f"same={data}")
    found = json.loads(cli("eval", model, "--part", "all", "--json", *options).out)
    dark, same = found["out_of_domain"]
    assert (dark["name"], dark["samples"], same["name"], same["samples"]) == ("night", 40, "same", 600)
    assert dark["difference"] == dark["value"] - found["value"] and dark["low"] <= dark["value"] <= dark["high"]
    assert (same["value"], same["low"], same["difference"]) == (found["value"], found["low"], 0.0)
    outcome = cli("eval", model, *options)
    assert outcome.code == 0 and "own data" in outcome.out and "night" in outcome.out and "difference" in outcome.out


def test_a_reference_is_run_on_further_data_sets_too(cli: Cli, model: Path, quantized: Path, data: Path) -> None:
    options = ("--reference", model, "--metric", "sqnr", "--part", "all", "--also", f"same={data}", "--json")
    found = json.loads(cli("eval", quantized, "--data", data, *options).out)
    assert found["out_of_domain"][0]["value"] == found["value"] and found["out_of_domain"][0]["low"] is None


@pytest.mark.parametrize(
    ("also", "words"),
    [
        (("night",), "is not NAME=SOURCE"),
        (("=night.npz",), "is not NAME=SOURCE"),
        (("a=x.npz", "a=y.npz"), "two data sets are called 'a'"),
        (("night=nowhere",), "data set night: no data 'nowhere'"),
        (("night=wide.npz",), "data set night: wide.npz: image has shape"),
        (("night=more.npz",), "data set night: more.npz: the targets .* the targets hold [10]"),
        (("night=bare.npz",), "data set night: bare.npz has no labels, and the metric accuracy needs them"),
        (("digits=digits",), "data set digits: its classes are 0, 1, 2, 3, 4 and 5 more, the model's T-shirt/top"),
    ],
)
def test_further_data_sets_that_do_not_fit_are_named(
    cli: Cli, model: Path, data: Path, also: tuple[str, ...], words: str
) -> None:
    night(data, "more.npz", y=np.full(40, 10))
    np.savez("wide.npz", image=np.zeros((8, 1, 28, 30), np.uint8), y=np.arange(8))
    np.savez("bare.npz", image=np.zeros((8, 1, 28, 28), np.uint8))
    outcome = cli("eval", model, *(text for source in also for text in ("--also", source)))
    first, _, last = words.partition(" .* ")
    assert outcome.code == 2 and first in outcome.err and last in outcome.err and not outcome.out


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": np.zeros((0, 1, 28, 28), np.uint8), "y": np.zeros(0, int)}, "no sample"),
        ({"image": np.zeros((0, 1, 28, 28), np.uint8)}, "no sample"),
        ({"image": np.zeros((50, 1, 28, 28), np.uint8), "y": np.full(50, 3)}, "has one class only; accuracy on it"),
        ({"image": np.zeros((2, 1, 28, 28), np.uint8), "y": np.arange(2)}, "2 samples leave nothing for"),
    ],
)
def test_data_that_tell_nothing(cli: Cli, model: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez("little.npz", **arrays)
    outcome = cli("eval", model, "--data", "little.npz")
    assert outcome.code == 2 and words in outcome.err and not outcome.out
