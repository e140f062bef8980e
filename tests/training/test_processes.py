"""Two real processes give what one gives with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

RECIPE = """
[data]
calibration = 32
augmentations = ["horizontal-flip", "shift"]
[[stage]]
kind = "distill"
epochs = 2
batch_size = 32
precision = "float32"
task = 0.3
losses = [
  { kind = "kl", importance = "teacher-confidence" },
  { kind = "gkl", weight = 0.1 },
  { kind = "rkd", weight = 0.5 },
  { kind = "similarity", taps = { "1" = "1" } },
  { kind = "hint" },
  { kind = "crd", weight = 0.1 },
]
"""


def network(seed: int, width: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 4))


def run(folder: Path, output: str, *launcher: str, recipe: str = "recipe.toml") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = ["compress", "student.pt", "-t", "generic-x86", "--data", "data.npz", "--recipe", recipe]
    arguments += ["--teacher", "teacher.pt", "-o", output, "--threads", "1", "--input", "Nx1x8x8"]
    command = [sys.executable, *launcher, "-m", "edgekd", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    images = random.standard_normal((320, 1, 8, 8)).astype(np.float32)
    targets = (images[:, 0, :2, :2].reshape(320, 4)).argmax(1)
    np.savez(tmp_path / "data.npz", input=images, y=targets)
    torch.save(network(0, 8), tmp_path / "student.pt")
    torch.save(network(1, 24), tmp_path / "teacher.pt")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def notes(folder: Path, output: str) -> dict[str, Any]:
    report = json.loads((folder / output / "report.json").read_text())
    return report["stages"][1]["notes"]  # type: ignore[no-any-return]


TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


MASK = """
[data]
calibration = 32
[[stage]]
kind = "mask"
sparsity = 0.6
epochs = 2
batch_size = 32
precision = "float32"
"""


@pytest.mark.slow
def test_two_processes_set_the_same_share_to_zero_as_one(folder: Path) -> None:
    (folder / "mask.toml").write_text(MASK)
    for output, launcher in (("one", ()), ("two", TWO)):
        made = run(folder, output, *launcher, recipe="mask.toml")
        assert made.returncode == 0, made.stderr
    one, two = notes(folder, "one"), notes(folder, "two")
    assert one["zeros"] == two["zeros"] == round(0.6 * (64 * 8 + 8 * 4))
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-4)


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_of_one(folder: Path) -> None:
    alone, both = run(folder, "one"), run(folder, "two", *TWO)
    assert alone.returncode == 0 and both.returncode == 0, alone.stderr + both.stderr
    one, two = notes(folder, "one"), notes(folder, "two")
    assert len(one["loss"]) == 2 and set(one["terms"][0]) == {"task", "kl", "gkl", "rkd", "similarity", "hint", "crd"}
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-4)
    for mine, theirs in zip(one["terms"], two["terms"], strict=True):
        np.testing.assert_allclose(list(mine.values()), list(theirs.values()), rtol=1e-3, atol=1e-5)
    again = run(folder, "two", *TWO)  # the stored stage is taken by both
    assert again.returncode == 0 and notes(folder, "two") == two


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused_by_all(folder: Path) -> None:
    (folder / "odd.toml").write_text(RECIPE.replace("batch_size = 32", "batch_size = 33"))
    refused = run(folder, "odd", *TWO, recipe="odd.toml")
    assert refused.returncode != 0 and "batches of 33 samples cannot be shared by 2 processes" in refused.stderr
