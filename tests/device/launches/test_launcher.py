"""A model that is bad for its process: one message and exit code 3, and nothing else is lost."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.device.errors import DeviceError, RuntimeMissing
from edgekd.device.launches.launcher import start
from edgekd.device.launches.subject import subject_of

from ..test_main import start as start_pyz
from .conftest import MakeBroken

ENDINGS = pytest.mark.parametrize(
    ("what", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "model.onnx in broken crashed (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed (SIGKILL), most likely for want of memory"),
        ("os._exit(7)", "ended its process with exit code 7"),
        ("raise RuntimeError('a bug')", "ended its process with exit code 1: RuntimeError: a bug"),
        ("raise DeviceError('the runtime refuses')", "the runtime refuses"),
        ("time.sleep(60)", "did not come to an end within 3 s"),
        ("raise MemoryError('60 GiB')", "ran out of memory: MemoryError: 60 GiB"),
    ],
)


@ENDINGS
def test_a_model_that_takes_its_process_along(make_broken: MakeBroken, tmp_path: Path, what: str, words: str) -> None:
    folder = make_broken(what)
    report = tmp_path / "gate.xml"
    budgets = ("--budget", "latency-p95=20ms", "--budget", "size=1MB")
    done = start_pyz(
        folder, "gate", *budgets, "--time-limit", "3s" if "sleep" in what else "60s", "--junit", str(report), "--github"
    )
    assert done.returncode == 3, done.stderr
    assert words in done.stdout and done.stdout.count("\nnot measured: ") == 1 and "Traceback" not in done.stderr
    suite = ElementTree.parse(report).getroot()
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("2", "0", "3")
    assert words in str(next(suite.iter("error")).text)
    assert done.stdout.startswith("::error title=classifier::") and done.stdout.count("::error ") == 2


@ENDINGS
@pytest.mark.parametrize("command", ["profile", "compare", "run", "verify"])
def test_a_model_cannot_take_the_command_along(make_broken: MakeBroken, command: str, what: str, words: str) -> None:
    folder = make_broken(what)
    done = start_pyz(
        folder,
        command,
        *([str(folder)] if command == "compare" else []),
        "--time-limit",
        "3s" if "sleep" in what else "60s",
    )
    assert done.returncode == (2 if "refuses" in words else 3), done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("process 1 of")]
    if command == "compare":
        words = words.removeprefix("model.onnx in broken")
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0] and done.stdout == ""


def test_a_batch_that_is_too_large_ends_the_search_and_nothing_else(make_broken: MakeBroken) -> None:
    folder = make_broken(
        "os.kill(os.getpid(), signal.SIGKILL) if len(feeds['image']) > 2 else time.sleep(0.001); return {'logits': feeds['image'][:, 0, 0, :6]}"
    )
    done = start_pyz(folder, "profile", "--throughput", "--duration", "0.4", "--sensor", "none", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["batch"] for one in found["throughput"]] == [1, 2] and found["latency"]["n"] > 10
    assert "with 4 samples model.onnx in broken was killed (SIGKILL)" in found["throughput_ended"]


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_one_that_started_them(
    make_broken: MakeBroken, tmp_path: Path, kind: signal.Signals
) -> None:
    note, temporary = tmp_path / "alive", tmp_path / "temporary"
    temporary.mkdir()
    begun = "import subprocess, tempfile; tempfile.mkdtemp(); begun = subprocess.Popen(['sleep', '60'])"
    told = f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{begun.pid}} .'); time.sleep(60)"
    folder = make_broken(f"{begun}; {told}")
    command = [sys.executable, "-I", str(folder / "run.pyz"), "profile"]
    parent = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temporary)})
    assert _within_30_s(lambda: note.exists() and note.read_text().endswith("."))
    alive = [int(one) for one in note.read_text().split()[:2]]
    parent.send_signal(kind)
    assert parent.wait() == (3 if kind == signal.SIGTERM else -kind)
    ended = _within_30_s(lambda: not any(_runs(one) for one in alive))
    for one in filter(_runs, alive):
        os.kill(one, signal.SIGKILL)
    assert ended
    assert kind == signal.SIGKILL or list(temporary.iterdir()) == []


def _within_30_s(condition: Callable[[], bool]) -> bool:
    return any(condition() or time.sleep(0.1) for _ in range(300))


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_runtime_that_is_not_installed_is_named(make_broken: MakeBroken) -> None:
    folder = make_broken("pass")
    subject = subject_of(folder, runtime="openvino")
    if importlib.util.find_spec("openvino") is None:
        with pytest.raises(RuntimeMissing, match="pip install openvino"):
            start({"candidate": subject}, threads=1, duration_s=0.1)
    with pytest.raises(DeviceError, match="unknown runtime 'none'"):
        start({"candidate": subject_of(folder, runtime="none")}, threads=1, duration_s=0.1)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", " crashed (SIGSEGV)"),
        ("raise DeviceError('the runtime refuses')", ": the runtime refuses"),
    ],
)
def test_of_two_models_the_one_that_fails_is_named(
    artifact: Path, make_broken: MakeBroken, tmp_path: Path, what: str, words: str
) -> None:
    sound = shutil.copytree(artifact, tmp_path / "sound")
    broken = make_broken(what)
    told = f"({broken}/model.onnx in broken){words}"
    for role, pair in (
        ("the baseline", ("--artifact", str(sound), "--baseline", str(broken))),
        ("the new model", ("--artifact", str(broken), "--baseline", str(sound))),
    ):
        done = start_pyz(broken, "gate", *pair, "--launches", "2", "--duration", "0.2s")
        assert done.returncode == 3 and f"\nnot measured: {role} {told}\n" in done.stdout, done.stdout + done.stderr


def test_two_models_in_turns_are_opened_in_the_order_given(artifact: Path) -> None:
    subject = subject_of(artifact)
    found = start({"baseline": subject, "candidate": subject}, threads=1, duration_s=0.1)
    models = found.result["models"]
    assert models["baseline"]["memory_mib"] > 10 and models["candidate"]["memory_mib"] is None
    assert len(found.times_ms["candidate"]) > 10 and found.result["ratios"].keys() >= {"latency-min", "cpu-time"}
    assert found.result["noise"]["seconds"] > 0.1
