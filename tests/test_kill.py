"""A killed run resumes, loses no finished stage, and ends with the hashes of a run that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgekd.files import sha256

RECIPE = Path(__file__).parent / "small.toml"


def start(model: Path, output: Path, program: Sequence[str] = ("-m", "edgekd")) -> subprocess.Popen[str]:
    command = [sys.executable, *program, "compress", str(model), "--target", "raspberry-pi-5"]
    command += ["--recipe", str(RECIPE), "-o", str(output), "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def hashes(output: Path) -> dict[str, str]:
    found = {path.parent.name: sha256(path) for path in (output / "stages").glob("*/state.json")}
    return found | {path.name: sha256(path) for path in (output / "artifact").iterdir()}


def logged(output: Path, words: str) -> bool:
    log = output / "log.jsonl"
    return log.exists() and any(json.loads(line)["message"].startswith(words) for line in log.read_text().splitlines())


@pytest.fixture(scope="module")
def undisturbed(example: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(example / "model.pt", output))
    return hashes(output)


def kill_when(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_run_killed_in_every_stage_ends_like_an_undisturbed_one(
    example: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    finished: dict[str, float] = {}
    for words in ("prune:", "distill: train", "quantize:", "measure:"):
        kill_when(start(example / "model.pt", output), lambda words=words: logged(output, words))
        now = {path.parent.name: path.stat().st_mtime for path in (output / "stages").glob("*/state.json")}
        assert all(now[name] == when for name, when in finished.items()), "a finished stage was lost or made again"
        finished = now
    assert len(finished) == 4
    finish(start(example / "model.pt", output))
    assert hashes(output) == undisturbed


DIE_WRITING = """
import os, signal, sys
import edgekd.run
from edgekd.cli import main

save_state = edgekd.run.save_state

def save_half(state, folder):
    save_state(state, folder)
    if (state.lineage or ("baseline",))[-1] == STAGE:
        os.truncate(max(folder.iterdir(), key=lambda path: path.stat().st_size), 100)
        os.kill(os.getpid(), signal.SIGKILL)

edgekd.run.save_state = save_half
main()
"""


def test_a_run_killed_in_the_middle_of_a_write_ends_like_an_undisturbed_one(
    example: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    script = tmp_path / "die.py"
    for stage in ("baseline", "distill", "quantize"):
        script.write_text(DIE_WRITING.replace("STAGE", repr(stage)))
        process = start(example / "model.pt", output, [str(script)])
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
        assert list((output / "stages").glob(f".partial-{stage}-*")) and not list(
            (output / "stages").glob(f"{stage}-*")
        )
    finish(start(example / "model.pt", output))
    assert hashes(output) == undisturbed
    assert not list(output.rglob(".partial-*"))


def test_ctrl_c_is_one_message_and_the_next_run_goes_on(example: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    process = start(example / "model.pt", output)
    while not logged(output, "distill: train"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert errors.splitlines()[-1].startswith("edgekd: interrupted; finished stages are kept")
    assert "Traceback" not in errors
    assert {path.name.split("-")[0] for path in (output / "stages").iterdir()} == {"baseline", "prune"}


def test_a_full_disk_is_one_message(example: Path, tmp_path: Path) -> None:
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", tmp_path], check=False).returncode
    ):
        pytest.skip("mounting a small disk needs root")
    try:
        process = start(example / "model.pt", tmp_path / "run")
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 3
        assert "the disk is full" in errors.splitlines()[-1] and "Traceback" not in errors
        assert not list((tmp_path / "run" / "stages").glob("prune-*"))
    finally:
        subprocess.run(["umount", tmp_path], check=False)
