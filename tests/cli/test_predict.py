"""`edgekd predict` and `edgekd calibrate`, from end to end."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from edgekd.models.networks.ds_cnn import DsCnn
from edgekd.models.networks.mobilenet_v2 import MobileNetV2
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.onnx_graph import at_batch, graph_signature
from edgekd.models.signature import Signature, TensorSpec
from edgekd.predict.calibration import PROCESSOR
from edgekd.predict.features import kernels_of
from edgekd.predict.latency import Coefficients, network_ms
from edgekd.stages.export.onnx_writer import write_onnx

from .conftest import Cli

BOARD = Coefficients(PROCESSOR.terms * [[2, 1, 1, 1, 0.5]])
NETWORKS = {
    "resnet-a": ("resnet", lambda: ResNet8((8, 16, 32)), (3, 32, 32)),
    "resnet-b": ("resnet", lambda: ResNet8((16, 32, 64)), (3, 32, 32)),
    "mobile-a": ("mobilenet", lambda: MobileNetV2(0.25, 10), (3, 32, 32)),
    "mobile-b": ("mobilenet", lambda: MobileNetV2(0.5, 10), (3, 32, 32)),
    "speech-a": ("ds-cnn", lambda: DsCnn(32), (1, 49, 10)),
    "speech-b": ("ds-cnn", lambda: DsCnn(64), (1, 49, 10)),
}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six networks, and `figures.csv`: what they take on a board whose coefficients are known."""
    folder = tmp_path_factory.mktemp("board")
    lines = ["model,p50_ms,family"]
    for name, (family, build, shape) in NETWORKS.items():
        torch.manual_seed(0)
        signature = Signature(
            inputs=(TensorSpec(name="x", shape=("batch", *shape)),),
            outputs=(TensorSpec(name="y", shape=("batch", 10)),),
        )
        write_onnx(build().eval(), signature, folder / f"{name}.onnx")
        lines.append(f"{name}.onnx,{time_on_board(folder / f'{name}.onnx')},{family}")
    (folder / "figures.csv").write_text("\n".join(lines) + "\n")
    return folder


def time_on_board(path: Path) -> float:
    model = onnx.load(str(path))
    assert graph_signature(model)
    return network_ms(kernels_of(model), BOARD)


def test_measured_figures_become_predictions(cli: Cli, board: Path, tmp_path: Path) -> None:
    held_out = board / "mobile-a.onnx"
    rows = [line for line in (board / "figures.csv").read_text().splitlines() if "mobile-a" not in line]
    (board / "five.csv").write_text("\n".join(rows))
    made = tmp_path / "coefficients.json"
    outcome = cli("calibrate", board / "five.csv", "--target", "raspberry-pi-4", "-o", made, "--threads", 1)
    assert outcome.code == 0 and "left out" in outcome.out and "5 networks of 3 families" in outcome.out
    found = json.loads(cli("predict", held_out, "-t", "raspberry-pi-4", "--coefficients", made, "--json").out)
    latency = found["figures"]["latency_p50_predicted_ms"]
    assert latency["how"] == "predicted"
    assert latency["value"] == pytest.approx(time_on_board(held_out), rel=0.15)
    assert latency["low"] < latency["value"] < latency["high"]
    assert sum(one["share"] for one in found["kernels"]) == pytest.approx(1)
    text = cli("predict", held_out, "-t", "raspberry-pi-4", "--coefficients", made).out
    assert "never measured on this board" in text and "energy estimate" in text
    for options, words in (
        (("-t", "raspberry-pi-5"), "target raspberry-pi-4"),
        (("-t", "raspberry-pi-4", "--precision", "int8"), "precision fp32"),
        (("-t", "raspberry-pi-4", "--runtime", "ncnn"), "runtime onnxruntime"),
    ):
        outcome = cli("predict", held_out, *options, "--coefficients", made)
        assert outcome.code == 2 and words in outcome.err


def test_a_profile_beside_its_artifact_is_transferred(cli: Cli, exported: Path, tmp_path: Path) -> None:
    folder = exported if (exported / "manifest.json").exists() else exported / "artifact"
    profile = profile_of(folder)
    (folder / "profile.json").write_text(json.dumps(profile))
    made = tmp_path / "coefficients.json"
    outcome = cli("calibrate", folder / "profile.json", "--target", "raspberry-pi-5", "-o", made)
    assert outcome.code == 0 and "transferred from raspberry-pi-5.onnxruntime.fp32" in outcome.out
    assert "no error is known" in outcome.out
    written = json.loads(made.read_text())
    assert written["transferred_from"] and written["threads"] == 2
    assert [one["model"] for one in written["networks"]] == [json.loads((folder / "manifest.json").read_text())["name"]]
    outcome = cli("predict", folder, "-t", "raspberry-pi-5", "--coefficients", made)
    assert outcome.code == 3 and "out of the range" in outcome.err and "--family" in outcome.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"artifact": {"sha256": "0" * 64}}, "another file"),
        ({"batch": 8}, "batch 8"),
        ({"before": {"architecture": "x86_64", "board": None}}, "measured on x86_64, which is no raspberry-pi-5"),
        ({"before": {"architecture": "aarch64", "board": "Raspberry Pi 5 Model B", "emulated": True}}, "emulation"),
        ({"session": {"runtime": "ncnn", "threads": "2"}}, "runtime ncnn, not onnxruntime"),
        ({"session": {"runtime": "onnxruntime", "threads": "4"}}, "threads 4, not 2"),
        ({"session": None}, "not the whole output"),
    ],
)
def test_a_profile_of_something_else_is_refused(
    cli: Cli, exported: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folder = exported if (exported / "manifest.json").exists() else exported / "artifact"
    (folder / "wrong.json").write_text(json.dumps(profile_of(folder) | change))
    command = ("calibrate", folder / "wrong.json", "-t", "raspberry-pi-5", "--runtime", "onnxruntime", "--threads", 2)
    outcome = cli(*command, "-o", tmp_path / "c.json")
    assert outcome.code == 2 and words in outcome.err
    assert not (tmp_path / "c.json").exists()


def profile_of(folder: Path) -> dict[str, Any]:
    """Return what `profile --json` says of an artifact on a Raspberry Pi 5, as far as `calibrate` reads it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {
        "schema": 1,
        "artifact": {"sha256": manifest["files"][manifest["model_file"]]["sha256"]},
        "session": {"runtime": "onnxruntime", "threads": "2"},
        "batch": 1,
        "latency": {"p50_ms": 2.0},
        "before": {"architecture": "aarch64", "board": "Raspberry Pi 5 Model B Rev 1.0", "emulated": False},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model,p50_us\na.onnx,3\n", "unknown column 'p50_us'"),
        ("model,family\na.onnx,x\n", "no column 'p50_ms'"),
        ("model,p50_ms\nresnet-a.onnx,0\n", "positive number"),
        ("model,p50_ms\nresnet-a.onnx,fast\n", "positive number"),
        ("model,p50_ms\nresnet-a.onnx,nan\n", "positive number"),
        ("model,p50_ms\n,3\n", "no model"),
        ("model,p50_ms\nmissing.onnx,3\n", "missing.onnx"),
        ("model,p50_ms\n", "no networks"),
        ("model,p50_ms\nresnet-a.onnx,\n", "no p50_ms"),
        ("model,p50_ms\nresnet-a.onnx,1e-300\n", "positive number"),
        ("model,p50_ms\nresnet-a.onnx,3,resnet\n", "more values than there are columns"),
        ("model,p50_ms\nresnet-a\0.onnx,3\n", "no model"),
        ("model,p50_ms\nloop.onnx,3\n", "loop.onnx"),
        ("model,p50_ms,family\nresnet-a.onnx,3," + "f" * 300 + "\n", "at most 200 characters"),
        ("model,p50_ms\nresnet-a.onnx," + "3" * 200_000 + "\n", "field larger than"),
        ("model,p50_ms\neight.onnx,3\n", "fixed to 8"),
        ("model,p50_ms\nresnet-a.onnx,3\nresnet-a.onnx,4\n", "twice"),
    ],
)
def test_a_wrong_table_is_refused(cli: Cli, board: Path, tmp_path: Path, text: str, words: str) -> None:
    table, loop = board / "wrong.csv", board / "loop.onnx"
    table.write_text(text)
    if not loop.is_symlink():
        loop.symlink_to("loop.onnx")
        fixed = at_batch(onnx.load(str(board / "resnet-a.onnx")), 8)
        onnx.save(fixed, str(board / "eight.onnx"))
    outcome = cli("calibrate", table, "--target", "raspberry-pi-5", "-o", tmp_path / "c.json")
    assert outcome.code == 2 and words in outcome.err
    assert not (tmp_path / "c.json").exists()


def test_networks_of_one_file_name_are_networks_of_their_own(cli: Cli, board: Path, tmp_path: Path) -> None:
    lines = ["model,p50_ms"]
    for name in NETWORKS:
        (tmp_path / name).mkdir()
        shutil.copy(board / f"{name}.onnx", tmp_path / name / "model.onnx")
        lines.append(f"{name}/model.onnx,{time_on_board(tmp_path / name / 'model.onnx')}")
    (tmp_path / "figures.csv").write_text("\n".join(lines))
    outcome = cli("calibrate", tmp_path / "figures.csv", "-t", "raspberry-pi-4", "-o", tmp_path / "c.json")
    assert outcome.code == 0 and "6 networks of 6 families" in outcome.out


def test_an_artifact_is_not_predicted_by_coefficients_of_another_runtime(cli: Cli, board: Path, exported: Path) -> None:
    made = board / "other.json"
    command = ("calibrate", board / "figures.csv", "-t", "raspberry-pi-4", "-o", made, "--runtime", "ncnn")
    assert cli(*command).code == 0
    outcome = cli("predict", exported, "-t", "raspberry-pi-4", "--coefficients", made)
    assert outcome.code == 2 and "for runtime ncnn, not onnxruntime" in outcome.err


def test_candidates_are_chosen_to_be_measured(cli: Cli, board: Path) -> None:
    table = board / "candidates.csv"
    rows = ["resnet-a.onnx,", "resnet-b.onnx,2.5", "mobile-a.onnx,", "mobile-b.onnx,", "speech-a.onnx,"]
    table.write_text("\n".join(("model,p50_ms", *rows)))
    outcome = cli("calibrate", table, "-t", "raspberry-pi-5", "--choose", 2, "--json")
    chosen = [one["model"] for one in json.loads(outcome.out)["choose"]]
    assert len(set(chosen)) == 2 and "resnet-b" not in chosen
    text = cli("calibrate", table, "-t", "raspberry-pi-5", "--choose", 2)
    assert text.code == 0 and f"{chosen[0]}.onnx" in text.out
    assert cli("calibrate", table, "-t", "raspberry-pi-5").code == 2
    outcome = cli("calibrate", board / "figures.csv", "-t", "raspberry-pi-5", "--choose", 2)
    assert outcome.code == 2 and "every network" in outcome.err


def test_without_coefficients_it_says_which_exist(cli: Cli, board: Path) -> None:
    outcome = cli("predict", board / "resnet-a.onnx", "--target", "speck2f")
    assert outcome.code == 3 and "raspberry-pi-5" in outcome.err and "edgekd calibrate" in outcome.err
    outcome = cli("predict", board / "resnet-a.onnx", "--target", "raspbery-pi-5")
    assert outcome.code == 2 and "nearest" in outcome.err
    outcome = cli("predict", board / "resnet-a.onnx", "-t", "raspberry-pi-5", "--coefficients", "nowhere")
    assert outcome.code == 2 and "shipped are" in outcome.err


def test_an_artifact_is_predicted_in_its_own_runtime(cli: Cli, exported: Path) -> None:
    outcome = cli("predict", exported, "-t", "jetson-orin-nano-super")
    assert outcome.code == 3 and "nothing to predict jetson-orin-nano-super, onnxruntime, fp32 from" in outcome.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--runtime", "My RT"), "no name of a runtime"),
        (("-o", "no/such/folder/c.json"), "does not exist"),
        (("-o", "."), "is a folder"),
        (("-o", "/dev/null"), "no regular file"),
    ],
)
def test_what_calibrate_cannot_write_is_refused_first(
    cli: Cli, board: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    outcome = cli("calibrate", board / "figures.csv", "-t", "raspberry-pi-5", "-o", tmp_path / "c.json", *options)
    assert outcome.code == 2 and words in outcome.err
    assert not (tmp_path / "c.json").exists()


def test_calibrate_takes_the_place_of_coefficients_alone(cli: Cli, board: Path, tmp_path: Path) -> None:
    model = sorted(board.glob("**/*.onnx"))[0]
    content = model.read_bytes()
    outcome = cli("calibrate", board / "figures.csv", "-t", "raspberry-pi-5", "-o", model)
    assert outcome.code == 2 and "exists and holds no coefficients" in outcome.err and model.read_bytes() == content
    for _ in range(2):  # its own it may write anew
        assert cli("calibrate", board / "figures.csv", "-t", "raspberry-pi-5", "-o", tmp_path / "c.json").code == 0


def test_an_int8_file_is_no_float_file(cli: Cli, quantized: Path) -> None:
    name = "jetson-orin-nano-super.tensorrt.int8.ultralytics-8.4"
    board = ("-t", "jetson-orin-nano-super", "--runtime", "tensorrt")
    outcome = cli("predict", quantized, *board, "--coefficients", name)
    assert outcome.code == 2 and "give the float file" in outcome.err
