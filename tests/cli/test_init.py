import tomllib
from pathlib import Path

import pytest

from edgekd.models.signature import Sidecar, read_sidecar
from edgekd.recipe import load_recipe
from edgekd.stages import KINDS
from edgekd.target import load_target, target_files

from .conftest import Cli


@pytest.mark.parametrize("name", target_files())
def test_the_recipe_says_what_the_targets_own_says(cli: Cli, name: str) -> None:
    assert cli("init", "--target", name).code == 0
    written = load_recipe("recipe.toml", KINDS)
    assert written == load_recipe(load_target(name)[0].default_recipe, KINDS)
    assert f"--target {name}" in Path("recipe.toml").read_text()


def test_without_a_target(cli: Cli) -> None:
    outcome = cli("init", "-o", "new/folder")
    assert outcome.code == 0 and "wrote new/folder/recipe.toml" in outcome.out
    assert load_recipe("new/folder/recipe.toml", KINDS).stages


def test_files_are_kept_unless_forced(cli: Cli, model: Path) -> None:
    Path("net.pt").write_bytes(model.read_bytes())
    assert cli("init", "net.pt").code == 0
    Path("recipe.toml").write_text("# mine\n")
    Path("net.toml").unlink()
    outcome = cli("init", "net.pt")
    assert outcome.code == 0 and outcome.out == "wrote net.toml\n" and "kept recipe.toml" in outcome.err
    assert Path("recipe.toml").read_text() == "# mine\n"
    outcome = cli("init", "net.pt")
    assert outcome.code == 2 and "recipe.toml and net.toml exist; --force replaces" in outcome.err
    assert cli("init", "net.pt", "--force").code == 0
    assert load_recipe("recipe.toml", KINDS).stages


def test_a_sidecar_that_is_read_is_the_one_that_is_kept(cli: Cli, model: Path) -> None:
    Path("net.pt").write_bytes(model.read_bytes())
    Path("model.toml").write_text('task = "regression"\n')
    outcome = cli("init", "net.pt")
    assert "kept model.toml" in outcome.err and not Path("net.toml").exists()


def test_a_pickled_network_gets_placeholders(cli: Cli, model: Path) -> None:
    Path("net.pt").write_bytes(model.read_bytes())
    outcome = cli("init", "net.pt")
    assert "fill in the inputs in net.toml" in outcome.err
    assert read_sidecar(Path("net.pt")) == Sidecar()
    lines = Path("net.toml").read_text().splitlines()
    filled = [line.removeprefix("# ") for line in lines if "=" in line or line.startswith("# [")]
    sidecar = Sidecar.model_validate(tomllib.loads("\n".join(line for line in filled if "std, one" not in line)))
    assert sidecar.inputs and sidecar.preprocessing and set(Sidecar.model_fields) == sidecar.model_fields_set


def test_an_onnx_file_tells_its_inputs(cli: Cli, exported: Path) -> None:
    Path("net.onnx").write_bytes((exported / "artifact/model.onnx").read_bytes())
    outcome = cli("init", "net.onnx", "-t", "raspberry-pi")
    assert outcome.code == 0 and "raspberry-pi means raspberry-pi-5" in outcome.err
    (spec,) = read_sidecar(Path("net.onnx")).inputs or ()
    assert (spec.name, spec.shape) == ("image", ("batch", 1, 28, 28))


def test_bad_input_writes_nothing(cli: Cli) -> None:
    Path("text.pt").write_text("hello")
    for arguments in (("text.pt",), ("none.pt",), ("--target", "nowhere")):
        outcome = cli("init", *arguments)
        assert outcome.code == 2 and not outcome.out
    assert [path.name for path in Path().iterdir()] == ["text.pt"]
