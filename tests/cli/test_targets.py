import json
from pathlib import Path

from edgekd.target import load_target, target_files

from .conftest import Cli


def test_list(cli: Cli) -> None:
    outcome = cli("targets", "list")
    assert outcome.code == 0 and all(name in outcome.out for name in target_files())
    assert "not there yet" in outcome.out and "jetson-agx-orin, jetson-orin" in outcome.out
    found = json.loads(cli("targets", "list", "--json").out)["targets"]
    exports = {one["name"]: one["export"] for one in found}
    assert exports["raspberry-pi-5"] == "onnxruntime" and exports["imx500"] is None


def test_show_has_every_fact(cli: Cli) -> None:
    outcome = cli("targets", "show", "raspberry-pi")
    target, meaning = load_target("raspberry-pi")
    assert meaning is not None and meaning in outcome.err
    for name, fact in target.facts.items():
        assert name in outcome.out and fact.confidence in outcome.out and " ".join(fact.source.split()) in outcome.out
    assert "int8 activation_dtype" in outcome.out
    assert "a board that names itself Raspberry Pi 5 Model B*" in outcome.out
    assert "any x86_64 machine" in cli("targets", "show", "generic-x86").out
    assert "no machine that edgekd runs on" in cli("targets", "show", "nir").out
    assert "operators" in cli("targets", "show", "imx500").out
    assert json.loads(cli("targets", "show", "nir", "--json").out)["name"] == "nir"
    assert cli("targets", "show", "nowhere").code == 2


def test_new_then_validate_then_use(cli: Cli) -> None:
    outcome = cli("targets", "new", "my-pi", "--like", "raspberry-pi")
    assert outcome.code == 0 and "targets/my-pi.toml" in outcome.out
    text = Path("targets/my-pi.toml").read_text()
    assert text.startswith("# my-pi: copied from raspberry-pi-5") and "[aliases]" not in text
    assert cli("targets", "validate", "targets/my-pi.toml").out == "targets/my-pi.toml: good\n"
    target, _ = load_target("my-pi")
    assert target.board_models == ("Raspberry Pi 5 Model B*",)
    assert target.title == "my-pi" and target.facts == load_target("raspberry-pi-5")[0].facts
    assert "my-pi" in cli("targets", "list").out
    outcome = cli("targets", "new", "my-pi", "--like", "nir")
    assert outcome.code == 2 and "exists" in outcome.err
    assert cli("targets", "new", "second", "--like", "./targets/my-pi.toml").code == 0


def test_new_refuses_bad_names(cli: Cli) -> None:
    for name, words in (("My Board", "is no name"), ("../evil", "is no name"), ("jetson-orin", "alias")):
        outcome = cli("targets", "new", name, "--like", "nir")
        assert outcome.code == 2 and words in outcome.err
    assert cli("targets", "new", "board", "--like", "nowhere").code == 2
    assert not Path("targets").exists()


def test_every_problem_is_shown(cli: Cli) -> None:
    cli("targets", "new", "board", "--like", "raspberry-pi-5")
    path = Path("targets/board.toml")
    text = path.read_text().replace("granularity = 16", "granularity = 0").replace('unit = "GB/s"', 'units = "GB/s"')
    path.write_text(text)
    outcome = cli("targets", "validate", path)
    assert outcome.code == 2 and "3 problems" in outcome.err
    assert "channels.granularity: 0 does not fit; input should be greater than" in outcome.out
    assert "units: there is no such setting here; remove it, or did you mean unit?" in outcome.out
    found = json.loads(cli("targets", "validate", path, "--json").out)
    assert len(found["problems"]) == 3 and set(found["problems"][0]) == {"field", "problem", "fix"}


def test_no_such_file(cli: Cli) -> None:
    outcome = cli("targets", "validate", "none.toml")
    assert outcome.code == 2 and "none.toml" in outcome.err
