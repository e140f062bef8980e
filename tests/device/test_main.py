"""run.pyz as a person starts it: a process of its own that cannot see this checkout."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.device import commands
from edgekd.device.__main__ import main

MakeArtifact = Callable[..., Path]


def start(folder: Path, *arguments: str, python: tuple[str, ...] = ("-I",)) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, *python, str(folder / "run.pyz"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, env=environment)


def assert_refused(result: subprocess.CompletedProcess[str], exit_code: int, message: str) -> None:
    assert result.returncode == exit_code, result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_verify_passes_without_edgekd(artifact: Path) -> None:
    result = start(artifact, "verify", python=("-I", "-X", "importtime"))
    assert result.returncode == 0, result.stderr
    assert "passed" in result.stdout
    imported = set(re.findall(r"\|\s*([\w.]+)\s*$", result.stderr, re.MULTILINE))
    assert {"device.manifest", "numpy"} <= imported
    assert not {name for name in imported if name.split(".")[0] in ("edgekd", "torch", "onnx", "onnxruntime")}


def test_verify_json(artifact: Path) -> None:
    content = json.loads(start(artifact, "verify", "--json").stdout)
    assert content["schema"] == 1 and content["passed"] is True
    assert content["outputs"][0]["name"] == "logits" and content["session"]["runtime"] == "onnxruntime"


def test_failed_self_check_is_exit_code_3(make_artifact: MakeArtifact) -> None:
    folder = make_artifact(outputs=np.full((10, 6), np.nan, np.float32))
    assert_refused(start(folder, "verify"), 3, "self-check failed: logits: cosine")
    result = start(folder, "verify", "--json")
    content = json.loads(result.stdout)
    assert result.returncode == 3 and content["passed"] is False and content["outputs"][0]["cosine"] is None


@pytest.mark.parametrize("command", ["run", "verify", "profile"])
def test_tampered_file_is_exit_code_3_for_every_command(artifact: Path, command: str) -> None:
    with open(artifact / "model.onnx", "ab") as stream:
        stream.write(b"x")
    assert_refused(start(artifact, command), 3, "model.onnx")


def test_bad_input_is_exit_code_2(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"junk")
    assert_refused(start(artifact, "run", "--input", str(tmp_path / "bad.npz")), 2, "bad.npz is not a readable")
    assert_refused(start(artifact, "verify", "--artifact", str(tmp_path)), 2, "manifest.json")
    assert_refused(start(artifact, "profile", "--batch", "0"), 2, "batch")
    assert_refused(start(artifact, "profile", "--threads", "0"), 2, "threads")
    assert start(artifact, "profile", "--duration", "0").returncode == 2
    assert start(artifact, "fly").returncode == 2
    assert start(artifact).returncode == 2


@pytest.mark.parametrize("size", [("--batch", "10000000000"), ("--shape", "2000000000x1x8x8")])
def test_inputs_that_no_memory_holds(artifact: Path, size: tuple[str, str]) -> None:
    assert_refused(
        start(artifact, "profile", *size), 3, r"the inputs of a call take (954|2\.38e\+03) GiB, more than half of "
    )


def test_wrong_version_is_exit_code_4(make_artifact: MakeArtifact) -> None:
    folder = make_artifact(versions={"onnxruntime": ">=99"})
    assert_refused(start(folder, "verify"), 4, "pip install 'onnxruntime>=99'")


def test_missing_numpy_is_exit_code_4(artifact: Path) -> None:
    assert_refused(start(artifact, "verify", python=("-I", "-S")), 4, "numpy is not installed: pip install numpy")


def test_debug_shows_the_traceback(artifact: Path) -> None:
    (artifact / "samples.npz").unlink()
    assert "Traceback" in start(artifact, "verify", "--debug").stderr


def test_run_prints_the_best_labels(artifact: Path, tmp_path: Path) -> None:
    result = start(artifact, "run", "--output", str(tmp_path / "out.npz"))
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 10 and result.stdout.startswith("sample 0: ")
    scores = np.load(tmp_path / "out.npz")["logits"]
    content = json.loads(start(artifact, "run", "--json").stdout)
    assert [one[0]["index"] for one in content["best"]] == scores.argmax(axis=1).tolist()
    assert len(content["best"][0]) == 5 and content["outputs"]["logits"]["shape"] == [10, 6]


def test_run_takes_a_raw_image(artifact: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8))
    result = start(artifact, "run", "--input", str(tmp_path / "x.npy"))
    assert result.returncode == 0 and len(result.stdout.splitlines()) == 1, result.stderr


def test_run_without_labels_describes_the_outputs(make_artifact: MakeArtifact) -> None:
    result = start(make_artifact(labels=None), "run")
    assert re.match(r"logits: float32\[10, 6\], from 0 to ", result.stdout), result.stderr


def test_wrong_number_of_labels_is_refused(make_artifact: MakeArtifact) -> None:
    assert_refused(start(make_artifact(labels=("ant", "bee")), "run"), 3, "6 scores, its manifest has 2 labels")


def test_profile(artifact: Path, tmp_path: Path) -> None:
    result = start(artifact, "profile", "--duration", "0.3", "--batch", "2", "--output", str(tmp_path / "p.json"))
    assert result.returncode == 0, result.stderr
    for word in ("p50", "p99", "load", "first call", "peak memory", "batch 2", "threads 1"):
        assert word in result.stdout
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["batch"] == 2 and content["latency"]["n"] > 0 and content["peak_memory_mib"] > 5
    assert content["cold_start"]["load_ms"] > 0 and content["cold_start"]["first_call_ms"] > 0
    assert content["before"]["architecture"] and content["session"]["threads"] == "1"


def test_profile_cannot_write_where_there_is_no_folder(artifact: Path, tmp_path: Path) -> None:
    result = start(artifact, "profile", "--duration", "0.1", "--output", str(tmp_path / "none" / "p.json"))
    assert_refused(result, 2, "cannot write")


@pytest.mark.parametrize(
    ("command", "own"),
    [
        (("profile", "--output"), "manifest.json"),
        (("profile", "--output"), "model.onnx"),
        (("run", "--output"), "run.pyz"),
        (("gate", "--budget", "size=1MB", "--junit"), "samples.npz"),
        (("baseline", "update", "--output"), "manifest.json"),
    ],
)
def test_no_result_takes_the_place_of_the_artifact_s_own_file(
    artifact: Path, tmp_path: Path, command: tuple[str, ...], own: str
) -> None:
    before = (artifact / own).read_bytes()
    link = tmp_path / "link"
    link.symlink_to(artifact)
    for path in (artifact / own, link / own):
        assert_refused(start(artifact, *command, str(path)), 2, f"it is the artifact's own {own}")
    assert (artifact / own).read_bytes() == before


def test_artifact_folder_may_be_moved_and_read_only(artifact: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "a folder"
    moved.parent.mkdir()
    shutil.move(artifact, moved)
    moved.chmod(0o555)
    try:
        assert start(moved, "verify").returncode == 0
    finally:
        moved.chmod(0o755)


def test_main_works_on_the_host_too(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(artifact)
    assert main(["verify"]) == 0 and "passed" in capsys.readouterr().out
    monkeypatch.chdir(artifact.parent)
    assert main(["verify"]) == 2
    assert main(["verify", "--artifact", str(artifact)]) == 0


def test_an_interrupt_is_exit_code_3_as_on_the_host(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(folder: Path, limit_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "verify", interrupt)
    assert main(["verify", "--artifact", str(artifact)]) == 3
    assert capsys.readouterr().err == "interrupted\n"


def test_what_the_gate_cannot_take_is_exit_code_2(artifact: Path, tmp_path: Path) -> None:
    budget = ("gate", "--budget", "latency-p50=1s")
    assert_refused(start(artifact, *budget, "--threads", "5000"), 2, "--threads must be 1 to 1024, not 5000")
    for command in (("profile",), ("compare", str(artifact))):
        refused = start(artifact, *command, "--threads", "5000")
        assert_refused(refused, 2, "--threads must be 1 to 1024, not 5000")
    onnx = str(artifact / "model.onnx")
    assert_refused(start(artifact, "gate", "--baseline", onnx), 2, "on the board it is an artifact folder or a .json")
    twice = ("--junit", "report", "--benchmark-json", "./report")
    assert_refused(start(artifact, *budget, *twice), 2, "--junit and --benchmark-json would both write report")


def test_emulated_processor_is_not_profiled(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgekd.device.cpuinfo.is_emulated", lambda *_: True)
    assert main(["profile", "--artifact", str(artifact)]) == 3
    assert "emulated" in capsys.readouterr().err


def test_label_is_escaped_in_a_narrow_encoding(make_artifact: MakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["run", "--artifact", str(make_artifact(labels=("Bär", "猫", "c", "d", "e", "f")))]) == 0
    narrow.seek(0)
    assert "B\\xe4r" in narrow.read()


def test_compare(artifact: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"
    shutil.copytree(artifact, same)
    result = start(artifact, "compare", str(same), "--duration", "0.5")
    assert result.returncode == 0, result.stderr
    for words in ("by the median", "by the CPU time", "by the minimum", "95 % interval", "process 10 of 10"):
        assert words in result.stdout + result.stderr
    for wrong, words in (
        ("none", "none does not exist: an"),
        ("same/model.onnx", "model.onnx is a file: an"),
        (".", "is no artifact"),
    ):
        assert_refused(start(artifact, "compare", str(tmp_path / wrong)), 2, words)
    assert start(artifact, "compare", str(same), "--runtime", "").stderr.endswith(
        "known: onnxruntime, openvino, tensorrt\n"
    )


@pytest.mark.parametrize("command", [("verify",), ("profile", "--duration", "0.2", "--sensor", "none")])
def test_a_result_that_nobody_takes(artifact: Path, command: tuple[str, ...]) -> None:
    line = shlex.join([sys.executable, "-I", str(artifact / "run.pyz"), *command])
    for redirect, code, said in ((">/dev/full", 3, "No space left"), (">&-", 0, ""), ("| head -c0", 0, "")):
        shell = ["bash", "-c", f"{line} {redirect}; exit ${{PIPESTATUS[0]}}"]
        result = subprocess.run(shell, capture_output=True, text=True)
        errors = [text for text in result.stderr.splitlines() if not text.startswith("latency: at most")]
        assert result.returncode == code and len(errors) == bool(said) and said in "".join(errors), result.stderr


def test_a_shape_is_what_the_model_is_fed_with(artifact: Path) -> None:
    short = ("--duration", "0.1", "--sensor", "none", "--json")
    assert json.loads(start(artifact, "profile", "--shape", "3x1x8x8", *short).stdout)["batch"] == 3
    refused = start(artifact, "profile", "--shape", "image=1x1x9x9", *short)
    assert refused.returncode == 2 and "expected ['batch', 1, 8, 8]" in refused.stderr
