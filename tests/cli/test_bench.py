import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .conftest import Cli

STAGES = '[[stage]]\nkind = "prune"\nto_macs = 0.6\ngranularity = 8\n[[stage]]\nkind = "quantize"\n'


def test_a_dry_run_shows_the_cells_and_makes_nothing(cli: Cli, model: Path) -> None:
    Path("recipe.toml").write_text(STAGES)
    options = ("bench", model, "-t", "generic-x86", "--recipe", "recipe.toml", "--dry-run", "--threads", "1")
    shown = cli(*options)
    assert shown.code == 0, shown.err
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "prune -> quantize prune, labels 2, quantize, labels 4, labels 4" in lines
    assert "quantize -> distill -> prune left out: recipe recipe has no distill stage" in lines
    assert lines[-1].startswith("3 seeds: about ") and not Path("edgekd-runs").exists()
    content = json.loads(cli(*options, "--json", "--seed", "4", "--order", "quantize,prune,distill").out)
    assert content["seeds"] == [4, 5, 6] and content["seconds"] > 0
    assert [cell["name"] for cell in content["cells"]][-2:] == [
        "prune -> quantize -> distill", "quantize -> prune -> distill",
    ]  # fmt: skip
    assert [step["name"] for step in content["cells"][4]["steps"]] == ["distill", "quantize", "distill", "distill"]


def test_an_onnx_network_can_be_quantized_only(cli: Cli, exported: Path, data: Path) -> None:
    network = exported / "artifact" / "model.onnx"
    options = ("bench", network, "-t", "raspberry-pi-5", "--data", data, "-o", "run", "--threads", "1")
    ran = cli(*options)
    assert ran.code == 0, ran.err
    assert "quantize, untrained" in ran.out and "left out (1)" in ran.out and "p50 ms," in ran.out
    assert "(1) an ONNX network can be quantized, but neither pruned nor trained" in ran.out
    content = json.loads(Path("run/bench.json").read_text())
    cells = {cell["name"]: cell for cell in content["cells"]}
    assert len(cells) == 15 and sum(cell["problem"] is None for cell in cells.values()) == 2
    assert cells["quantize, untrained"]["size_mb"]["mean"] < 0.5 * cells["baseline"]["size_mb"]["mean"]
    assert len(cells["baseline"]["latency_p50_ms"]["seeds"]) == 3 and not content["latency"]["on_target"]
    page = Path("run/bench.md").read_text()
    assert page.startswith("# model for raspberry-pi-5") and "p50 ms, this machine" in page
    picture = ElementTree.parse("run/bench.svg").getroot()
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 4  # two files, two panels
    (run,) = json.loads(cli("runs", "list", ".", "--json").out)["runs"]
    assert (run["state"], run["model"], run["targets"]) == ("finished", "model", ["raspberry-pi-5"])
    again = cli(*options, "--json")
    assert json.loads(again.out)["cells"] == content["cells"] and "quantize: static" not in again.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epochs", "0"), "--epochs 0: each of the 3 trainings needs one at least"),
        (("--seeds", "0"), "--seeds 0"),
        (("--order", "prune,quantize"), "--order prune,quantize: name each of prune, quantize, distill once"),
        (("-t", "raspberry-pi-5"), "give one --target"),
        (("--recipe", "export"), "there is nothing to compare"),
    ],
)
def test_what_is_wrong_is_one_message(cli: Cli, model: Path, options: tuple[str, ...], words: str) -> None:
    outcome = cli("bench", model, "-t", "generic-x86", *options)
    assert outcome.code == 2 and words in outcome.err and not Path("edgekd-runs").exists()
