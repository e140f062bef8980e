"""Valgrind counts the real runtime; the counts of two equal processes are equal."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.instructions.callgrind import Callgrind

from ..conftest import CLASSES


def test_why_it_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "apt-get install valgrind" in str(Callgrind.find())


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="apt-get install valgrind")
def test_what_valgrind_cannot_run_is_one_message(tmp_path: Path) -> None:
    counter = Callgrind.find()
    assert isinstance(counter, Callgrind)
    with pytest.raises(CheckFailed, match="valgrind does not run model.onnx in abacus: .*unknown runtime"):
        counter.count("abacus", tmp_path / "model.onnx", {"image": np.zeros(1)})
    with pytest.raises(CheckFailed, match="did not count model.onnx in onnxruntime within the time it had"):
        counter.count("onnxruntime", tmp_path / "model.onnx", {"image": np.zeros(1)}, limit_s=0.1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="apt-get install valgrind")
def test_a_call_of_the_runtime_is_counted(artifact: Path) -> None:
    counter = Callgrind.find()
    assert isinstance(counter, Callgrind)
    found = counter.count("onnxruntime", artifact / "model.onnx", {"image": np.zeros((1, 1, 8, 8), np.float32)})
    assert found["how"] == "emulated" and found["calls"] == 10
    assert (
        64 * CLASSES / 8 < found["per_call"] < 1e6
    )  # the products, eight at a time, and what Python and the runtime add
