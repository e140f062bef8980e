"""A launch that ends badly: one message and exit code 3, and the outputs are written all the same."""

import importlib.util
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed, RuntimeMissing
from edgekd.device.launches.launcher import start
from edgekd.device.launches.subject import subject_of

from ..test_main import start as start_pyz
from .conftest import MakeBroken


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "model.onnx in broken crashed (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed (SIGKILL), most likely for want of memory"),
        ("os._exit(7)", "ended its process with exit code 7"),
        ("raise RuntimeError('a bug')", "ended its process with exit code 1: RuntimeError: a bug"),
        ("raise DeviceError('the runtime refuses')", "the runtime refuses"),
        ("time.sleep(60)", "did not come to an end within 3 s"),
    ],
)
def test_a_model_that_takes_its_process_along(make_broken: MakeBroken, tmp_path: Path, what: str, words: str) -> None:
    folder = make_broken(what)
    report = tmp_path / "gate.xml"
    budgets = ("--budget", "latency-p95=20ms", "--budget", "size=1MB")
    done = start_pyz(folder, "gate", *budgets, "--time-limit", "3s", "--junit", str(report), "--github")
    assert done.returncode == 3, done.stderr
    assert words in done.stdout and done.stdout.count("\nnot measured: ") == 1 and "Traceback" not in done.stderr
    suite = ElementTree.parse(report).getroot()
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("2", "0", "3")
    assert words in str(next(suite.iter("error")).text)
    assert done.stdout.startswith("::error title=classifier::") and done.stdout.count("::error ") == 2


def test_a_runtime_that_is_not_installed_is_named(make_broken: MakeBroken) -> None:
    folder = make_broken("pass")
    subject = subject_of(folder, runtime="openvino")
    if importlib.util.find_spec("openvino") is None:
        with pytest.raises(RuntimeMissing, match="pip install openvino"):
            start({"candidate": subject}, threads=1, duration_s=0.1)
    with pytest.raises(CheckFailed, match="unknown runtime 'none'"):
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
