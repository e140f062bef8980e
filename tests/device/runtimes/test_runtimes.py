import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.device.errors import DeviceError, RuntimeMissing
from edgekd.device.runtimes import known_runtimes, node_times, open_session, open_timed, runtime_version
from edgekd.device.runtimes.session import TensorInfo, check_shape, same_signature


def test_every_file_is_a_runtime() -> None:
    assert "onnxruntime" in known_runtimes() and "session" not in known_runtimes()


def test_unknown_runtime_lists_the_known_ones(tmp_path: Path) -> None:
    for name in ("tvm", "session", "../x", ""):
        with pytest.raises(DeviceError, match="known: .*onnxruntime"):
            open_session(name, tmp_path)


def test_the_runtimes_own_profile(artifact: Path) -> None:
    times = node_times("onnxruntime", artifact / "model.onnx", {"image": np.zeros((1, 1, 8, 8), np.float32)}, 1)
    (product,) = [one for one in times if "MatMul" in one.operator or one.operator == "Gemm"]
    assert product.dtype == "float32" and product.time_us >= 0
    with pytest.raises(DeviceError, match="unknown runtime 'tflite'"):
        node_times("tflite", artifact / "model.onnx", {}, 1)


def test_model_runs(artifact: Path) -> None:
    session = open_session("onnxruntime", artifact / "model.onnx", threads=2)
    assert session.inputs == [TensorInfo("image", ("batch", 1, 8, 8), "float32")]
    assert session.outputs == [TensorInfo("logits", ("batch", 6), "float32")]
    assert session.run({"image": np.zeros((3, 1, 8, 8), np.float32)})["logits"].shape == (3, 6)
    assert session.describe() == {
        "runtime": "onnxruntime",
        "version": runtime_version("onnxruntime"),
        "provider": "CPUExecutionProvider",
        "threads": "2",
    }


def test_the_time_to_open_a_model_is_without_the_import(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def slow_import() -> str:
        nonlocal now
        now += 0.0 if now else 100.0
        return "1"

    monkeypatch.setattr("edgekd.device.runtimes.onnxruntime.version", slow_import)
    monkeypatch.setattr("edgekd.device.runtimes.time.perf_counter", lambda: now)
    monkeypatch.setattr("edgekd.device.runtimes.onnxruntime._OnnxRuntimeSession", lambda path, threads: slow_import())
    assert open_timed("onnxruntime", artifact / "model.onnx") == ("1", 0.0)


@pytest.mark.parametrize(
    "feeds", [{}, {"other": np.zeros(1)}, {"image": np.zeros((1, 1, 8, 8))}, {"image": np.zeros((1, 9), np.float32)}]
)
def test_wrong_inputs_are_refused_in_one_line(artifact: Path, feeds: dict[str, Any]) -> None:
    session = open_session("onnxruntime", artifact / "model.onnx")
    with pytest.raises(DeviceError, match="cannot run the model") as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x0a"])
def test_bad_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DeviceError, match="cannot open model.onnx") as caught:
        open_session("onnxruntime", tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_missing_file_and_no_threads_are_refused(artifact: Path) -> None:
    with pytest.raises(DeviceError, match="does not exist"):
        open_session("onnxruntime", artifact / "none.onnx")
    with pytest.raises(DeviceError, match="threads"):
        open_session("onnxruntime", artifact / "model.onnx", threads=0)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), "pip install onnxruntime"),
        (ImportError("libfoo.so: cannot open shared object"), "does not load: libfoo.so"),
    ],
)
def test_missing_runtime(artifact: Path, monkeypatch: pytest.MonkeyPatch, error: ImportError, message: str) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise error
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RuntimeMissing, match=message) as caught:
        open_session("onnxruntime", artifact / "model.onnx")
    assert caught.value.exit_code == 4


def test_nothing_is_stored_for_telemetry(artifact: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(home / "cache")}
    command = [sys.executable, "-I", str(artifact / "run.pyz"), "verify"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert list(home.iterdir()) == []


def test_shapes() -> None:
    info = TensorInfo("x", ("batch", 3), "float32")
    assert check_shape(np.zeros((5, 3)), info) is None
    assert "[5, 4]" in str(check_shape(np.zeros((5, 4)), info))
    assert "[3]" in str(check_shape(np.zeros(3), info))
    fixed = TensorInfo("x", (1, 3), "float32")
    assert same_signature({"x": info}, {"x": fixed})
    assert not same_signature({"x": info}, {"y": fixed})
    assert not same_signature({"x": info}, {"x": TensorInfo("x", (1, 3), "uint8")})
    assert not same_signature({"x": info}, {"x": TensorInfo("x", (1, 4), "float32")})
