import json
import shutil
from pathlib import Path

from .conftest import Cli


def test_a_run_and_its_artifact(cli: Cli, quantized: Path) -> None:
    for path in (quantized, quantized / "artifact"):
        outcome = cli("verify", path)
        assert outcome.code == 0 and outcome.out.endswith("passed\n")
    found = json.loads(cli("verify", quantized, "--json").out)
    assert found["passed"] is True and found["artifact"]["precision"] == "int8"


def test_a_changed_file_ends_with_three(cli: Cli, exported: Path) -> None:
    shutil.copytree(exported / "artifact", "artifact")
    with Path("artifact/model.onnx").open("ab") as file:
        file.write(b"!")
    outcome = cli("verify", "artifact")
    assert outcome.code == 3 and "not the file that was exported" in outcome.err


def test_outputs_that_differ_end_with_three(cli: Cli, exported: Path) -> None:
    shutil.copytree(exported / "artifact", "artifact")
    import numpy as np

    from edgekd.device.manifest import FileEntry

    with np.load("artifact/samples.npz") as arrays:
        changed = {name: -array if name.startswith("output.") else array for name, array in arrays.items()}
    np.savez("artifact/samples.npz", **changed)
    manifest = json.loads(Path("artifact/manifest.json").read_text())
    entry = FileEntry.of(Path("artifact/samples.npz"))
    manifest["files"]["samples.npz"] = {"sha256": entry.sha256, "bytes": entry.bytes}
    Path("artifact/manifest.json").write_text(json.dumps(manifest))
    outcome = cli("verify", "artifact", "--json")
    assert outcome.code == 3 and "self-check failed" in outcome.err
    assert json.loads(outcome.out)["passed"] is False


def test_no_artifact(cli: Cli) -> None:
    assert "does not exist" in cli("verify", "none").err
    Path("empty").mkdir()
    outcome = cli("verify", "empty")
    assert outcome.code == 2 and "holds no artifact" in outcome.err


def test_a_run_for_several_targets_is_asked_which(cli: Cli, exported: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(exported / "artifact", f"run/artifact/{name}")
    outcome = cli("verify", "run")
    assert outcome.code == 2 and "run/artifact/one, run/artifact/two" in outcome.err
    assert cli("verify", "run/artifact/two").code == 0
