import json
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.models.networks.resnet8 import ResNet8

from .conftest import Cli


class Residual(nn.Sequential):
    """Adds the input of every second layer to what it makes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = x + layer(x)
        return x


def test_a_network(cli: Cli, model: Path) -> None:
    outcome = cli("inspect", model, "-t", "raspberry-pi-5", "-t", "imx500")
    assert outcome.code == 0, outcome.err
    for words in (
        "a whole network, pickled", "input image: N x 1 x 28 x 28 float32", "output output: N x 10 float32",
        "stem.0", "Conv2d", "N x 8 x 28 x 28", "prunable group", "blocks.2.conv1", "Gemm",
        "imx500          imx500       no export for imx500 yet", "nothing found",
    ):  # fmt: skip
        assert words in outcome.out


def test_json_of_a_network(cli: Cli, model: Path) -> None:
    found = json.loads(cli("inspect", model, "--json").out)
    network = ResNet8((8, 16, 16), num_classes=10, in_channels=1)
    assert found["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    assert found["macs"] == sum(layer["macs"] or 0 for layer in found["layers"])
    assert found["macs"] > 28 * 28 * 9 * 8
    assert all(found["asks_for"].values()) and "torch.nn.modules.conv.Conv2d" in found["asks_for"]
    assert {group["root"] for group in found["groups"]} >= {"blocks.0.conv1", "blocks.1.conv1"}
    assert len(found["targets"]) == 19 and found["problem"] is None


def test_an_onnx_file(cli: Cli, quantized: Path) -> None:
    found = json.loads(cli("inspect", quantized / "artifact/model.onnx", "-t", "loihi2", "--json").out)
    assert (found["format"], found["precision"], found["opset"], found["batch"]) == ("onnx", "int8", 20, None)
    assert found["operators"]["Conv"] == 9 and found["operators"]["QuantizeLinear"] > 1
    assert len(found["layers"]) == 10 and found["layers"][0]["shape"][0] == "N"
    (refusal,) = found["targets"]
    assert "the file is int8, it runs spike" in refusal["reasons"]
    text = cli("inspect", quantized / "artifact/model.onnx", "-t", "raspberry-pi-5").out
    assert "int8, opset 20" in text and "nothing found" in text


def test_a_run_directory_shows_its_last_state(cli: Cli, quantized: Path) -> None:
    found = json.loads(cli("inspect", quantized, "-t", "nir", "--json").out)
    assert found["name"] == str(quantized / "artifact/model.onnx") and found["precision"] == "int8"
    assert json.loads(cli("inspect", quantized / "artifact", "-t", "nir", "--json").out) == found
    shutil.copytree(quantized, "killed")
    (Path("killed") / "report.json").unlink()
    for stage, precision in (("quantize", "int8"), ("baseline", "fp32")):
        found = json.loads(cli("inspect", "killed", "-t", "nir", "--json").out)
        assert stage in found["name"] and found["precision"] == precision
        for folder in Path("killed/stages").glob("quantize-*"):
            shutil.rmtree(folder)
    shutil.rmtree("killed/stages")
    outcome = cli("inspect", "killed")
    assert outcome.code == 2 and "no stage yet" in outcome.err
    Path("other").mkdir()
    assert cli("inspect", "other").code == 2


def test_the_network_of_a_run_is_shown_with_its_groups(cli: Cli, model: Path) -> None:
    ran = cli("prune", model, "-t", "raspberry-pi-5", "--to-macs", "0.6", "--granularity", "4", "-o", "pruned")
    assert ran.code == 0, ran.err
    asked = ("-t", "raspberry-pi-5", "--sensitivity", "--samples", "10")
    whole = json.loads(cli("inspect", model, "-t", "raspberry-pi-5", "--json").out)
    found = json.loads(cli("inspect", "pruned", *asked, "--json").out)
    assert (found["name"], found["format"], found["problem"], found["notes"]) == ("pruned", "run directory", None, [])
    assert found["parameters"] < whole["parameters"]
    assert [layer["name"] for layer in found["layers"]] == [layer["name"] for layer in whole["layers"]]
    channels = [{group["root"]: group["channels"] for group in one["groups"]} for one in (found, whole)]
    assert channels[0].keys() == channels[1].keys() and sum(channels[0].values()) < sum(channels[1].values())
    assert {one["group"]["root"] for one in found["sensitivity"]["groups"]} == channels[0].keys()
    assert "pruned: the network that a run left, as ONNX, " in cli("inspect", "pruned", "-t", "nir").out
    source = Path("pruned/source/source.json")
    source.write_text(json.dumps({**json.loads(source.read_text()), "factory": "strangers:make"}))
    outcome = cli("inspect", "pruned", "-t", "nir")
    assert outcome.code == 0 and "artifact/model.onnx: ONNX" in outcome.out
    assert "the file alone is shown" in outcome.err and "give --model strangers:make again" in outcome.err


def test_unknown_inputs_still_show_the_layers(cli: Cli, model: Path) -> None:
    Path("net.pt").write_bytes(model.read_bytes())
    outcome = cli("inspect", "net.pt")
    assert outcome.code == 0 and "stem.0" in outcome.out
    assert "--input Nx1xHEIGHTxWIDTH" in outcome.err


def test_weights_alone_show_their_tensors(cli: Cli) -> None:
    torch.save({"state_dict": nn.Linear(4, 2).state_dict()}, "weights.pt")
    outcome = cli("inspect", "weights.pt")
    assert outcome.code == 2 and "2 x 4" in outcome.out and "10 parameters" in outcome.out
    assert "--model package.module:function" in outcome.err
    Path("makers.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(4, 2)\n")
    outcome = cli("inspect", "weights.pt", "--model", "makers:make", "--input", "Nx4", "-t", "nir")
    assert outcome.code == 0 and "N x 2" in outcome.out


def test_what_is_not_trusted_is_listed_and_not_loaded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("strangers.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n    pass\nopen('imported', 'w').close()\n"
    )
    monkeypatch.syspath_prepend(".")
    import strangers

    torch.save(strangers.Net(3, 2), "net.pt")
    Path("imported").unlink()
    monkeypatch.delitem(__import__("sys").modules, "strangers")
    outcome = cli("inspect", "net.pt")
    assert outcome.code == 2 and "asks for (NOT trusted): strangers.Net" in outcome.out
    assert "--trust strangers" in outcome.err and not Path("imported").exists()
    found = json.loads(cli("inspect", "net.pt", "--json").out)
    assert found["asks_for"]["strangers.Net"] is False and "not trusted" in found["problem"]
    outcome = cli("inspect", "net.pt", "--trust", "strangers", "--input", "Nx3", "-t", "nir")
    assert outcome.code == 0 and "(the network)" in outcome.out


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"hello", "not a model file"), (b"PK\x03\x04", "zip")]
)
def test_no_model(cli: Cli, content: bytes, words: str) -> None:
    Path("model.pt").write_bytes(content)
    outcome = cli("inspect", "model.pt")
    assert outcome.code == 2 and words in outcome.err and outcome.err.count("\n") == 1


def test_a_broken_target_file_hides_no_other(cli: Cli, model: Path) -> None:
    Path("targets").mkdir()
    Path("targets/mine.toml").write_text("name = 3")
    outcome = cli("inspect", model)
    assert outcome.code == 0 and "left out: targets/mine.toml" in outcome.err and "raspberry-pi-5" in outcome.out


def test_sensitivity_of_every_group(cli: Cli, model: Path) -> None:
    asked = ("inspect", model, "-t", "raspberry-pi-5", "--sensitivity", "--samples", "20")
    found = json.loads(cli(*asked, "--json").out)
    tried = found["sensitivity"]
    assert (tried["metric"], tried["samples"], tried["granularity"]) == ("accuracy", 20, 16)
    assert {one["group"]["root"] for one in tried["groups"]} == {group["root"] for group in found["groups"]}
    assert json.loads(cli("inspect", model, "--json").out)["sensitivity"] is None
    text = cli(*asked).out
    assert "every group cut alone, in multiples of 16" in text and "MACs less" in text


def test_groups_of_many_layers_fit_on_a_line(cli: Cli, tmp_path: Path) -> None:
    network = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Conv2d(4, 4, 1), nn.ReLU())])
    names = [f"a_long_name_of_a_module_{number}" for number in range(len(network))]
    wide = nn.Sequential(
        nn.Conv2d(1, 4, 1), Residual(OrderedDict(zip(names, network, strict=True))), nn.Conv2d(4, 2, 1)
    )
    torch.save(wide, tmp_path / "wide.pt")
    asked = ("inspect", tmp_path / "wide.pt", "--input", "Nx1x8x8", "--trust", Residual.__module__)
    lines = cli(*asked).out.splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("prunable group")) :]
    assert all(len(line) <= 100 for line in table[: table.index("--json lists them all") + 1])
    assert any(re.search(r"and \d+ more", line) for line in table)


def test_sensitivity_without_data_says_so(cli: Cli, model: Path) -> None:
    outcome = cli("inspect", model, "--sensitivity", "--data", "nothing.npz")
    assert outcome.code == 2 and "nothing.npz" in outcome.err
