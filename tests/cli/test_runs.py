import json
import shutil
from pathlib import Path

from filelock import FileLock

from .conftest import Cli


def test_list(cli: Cli, exported: Path, quantized: Path) -> None:
    outcome = cli("runs", "list", exported.parent)
    assert outcome.code == 0 and outcome.out.count("finished") == 2 and "raspberry-pi-5" in outcome.out
    found = json.loads(cli("runs", "list", exported.parent, "--json").out)["runs"]
    assert {run["path"] for run in found} == {str(exported), str(quantized)}
    assert all(run["bytes"] > 10_000 and run["model"] == "model" for run in found)


def test_the_current_folder_and_its_runs(cli: Cli, exported: Path) -> None:
    outcome = cli("runs", "list")
    assert outcome.code == 0 and not outcome.out and "no runs in" in outcome.err
    shutil.copytree(exported, "edgekd-runs/mine")
    assert "edgekd-runs/mine" in cli("runs", "list").out
    (Path("edgekd-runs/mine") / "report.json").unlink()
    with FileLock("edgekd-runs/mine/.lock"):
        assert "at work" in cli("runs", "list").out
    assert "not finished" in cli("runs", "list").out


def test_a_killed_run_can_be_told_apart(cli: Cli, exported: Path) -> None:
    shutil.copytree(exported, "mine")
    shutil.rmtree("mine/artifact")
    (Path("mine") / "report.json").unlink()
    (run,) = json.loads(cli("runs", "list", "mine", "--json").out)["runs"]
    assert (run["model"], run["targets"], run["state"]) == ("model", ["raspberry-pi-5"], "not finished")


def test_clean_keeps_the_artifact(cli: Cli, exported: Path) -> None:
    shutil.copytree(exported, "mine")
    outcome = cli("runs", "clean", "mine", "--keep-artifact", "--yes")
    assert outcome.code == 0 and "removed stages/, onnx/, figures/ from mine" in outcome.out
    kept = {path.name for path in Path("mine").iterdir()}
    assert kept >= {"artifact", "report.json", "recipe.json", "log.jsonl", "run.json"}
    assert not kept & {"stages", "onnx", "figures"}
    assert cli("verify", "mine").code == 0
    assert "nothing to remove" in cli("runs", "clean", "mine").err
    found = json.loads(cli("runs", "clean", "mine", "--remove-artifact", "--yes", "--json").out)
    assert list(found["removed"]) == ["artifact"] and not Path("mine/artifact").exists()


def test_clean_follows_no_links(cli: Cli, exported: Path) -> None:
    shutil.copytree(exported, "mine")
    shutil.rmtree("mine/stages")
    Path("precious").mkdir()
    Path("precious/thesis.txt").write_text("years of work")
    Path("mine/stages").symlink_to(Path("precious").resolve())
    assert cli("runs", "clean", "mine", "--yes").code == 0
    assert Path("precious/thesis.txt").exists() and not Path("mine/stages").exists()


def test_clean_refuses(cli: Cli, exported: Path) -> None:
    shutil.copytree(exported, "mine")
    outcome = cli("runs", "clean", "mine")
    assert outcome.code == 2 and "--yes" in outcome.err
    with FileLock("mine/.lock"):
        outcome = cli("runs", "clean", "mine", "--yes")
        assert outcome.code == 2 and "at work" in outcome.err
    assert Path("mine/stages").exists()
    Path("other/stages").mkdir(parents=True)
    outcome = cli("runs", "clean", "other", "--yes")
    assert outcome.code == 2 and "no run directory" in outcome.err and Path("other/stages").exists()
