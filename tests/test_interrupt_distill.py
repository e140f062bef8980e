"""Ctrl-C in the middle of a distillation: one line, and the same command goes on after the last whole epoch."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

EPOCHS = 150


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgekd", "distill", "student.pt", "-t", "generic-x86", "--data", "data.npz"]
    command += ["--input", "x:Nx6", "--epochs", str(EPOCHS), "-o", "run", "--threads", "1"]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip


def epochs(folder: Path) -> int:
    """Return how many epochs the run has logged."""
    log = folder / "run" / "log.jsonl"
    return len(re.findall(r"distill: epoch \d+/", log.read_text())) if log.exists() else 0


@pytest.mark.slow
def test_ctrl_c_in_training_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), tmp_path / "student.pt")
    x = np.random.default_rng(0).standard_normal((240, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :3].argmax(1))

    process, deadline = start(tmp_path), time.monotonic() + 200
    while epochs(tmp_path) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 3 and not out and "Traceback" not in errors
    said = [line for line in errors.splitlines() if line.startswith("edgekd: ")]
    assert len(said) == 1 and said[0].startswith("edgekd: interrupted; finished stages are kept")
    done = epochs(tmp_path)
    assert 3 <= done < EPOCHS and not list((tmp_path / "run" / "stages").glob("distill-*"))

    again = start(tmp_path)
    _, errors = again.communicate(timeout=200)
    assert again.returncode == 0, errors
    found = re.search(r"distill: goes on after epoch (\d+)", errors)
    assert found is not None and int(found[1]) in (done - 1, done)  # the line of an epoch comes before its checkpoint
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(report["stages"][-1]["notes"]["loss"]) == EPOCHS
