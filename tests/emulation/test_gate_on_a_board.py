"""The whole chain on an emulated arm64 board: an artifact is checked, profiled, and gated on instructions.

A network of 50 equal layers against one of 51: 2 % more work. It must be found, and nothing else.
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from .board import Board, Finished, missing_tools

pytestmark = pytest.mark.slow

COUNTED = ("--instructions", "clock", "--launches", "1")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    missing = missing_tools()
    if missing:
        pytest.skip(f"apt-get install qemu-system-arm mmdebstrap cpio: {', '.join(missing)} not installed")
    try:
        return Board(tmp_path_factory.mktemp("board"))
    except (AssertionError, subprocess.TimeoutExpired) as failure:
        pytest.skip(f"packages for arm64 cannot be had here: {failure}")


def export(layers: int, folder: Path) -> Path:
    """Return the artifact of a network of so many equal layers."""
    from tests.cli.conftest import run_cli

    folder.mkdir()
    torch.manual_seed(0)
    torch.save(nn.Sequential(*[nn.Linear(128, 128) for _ in range(layers)]).eval(), folder / "model.pt")
    random = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=random.normal(size=(200, 128)).astype(np.float32), y=np.arange(200) % 2)
    outcome = run_cli(
        *("export", folder / "model.pt", "-t", "raspberry-pi-5", "--data", folder / "data.npz", "--input", "batchx128"),
        *("-o", folder / "run"),
    )
    assert outcome.code == 0, outcome.err
    return folder / "run" / "artifact"


def test_two_percent_more_work_is_found_and_nothing_is_invented(board: Board, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for name, layers in (("before", 50), ("after", 51)):
        shutil.copytree(export(layers, tmp_path / name), work / name)
    gate = ("gate", "--baseline", "baseline.json", "--json", *COUNTED)
    said = board.run(
        work,
        [
            run("before", "verify"),
            run("before", "profile", "--instructions", "clock", "--json"),
            run("before", "baseline", "update", "-o", "baseline.json", *COUNTED),
            run("before", *gate),
            run("before", *gate),
            run("after", *gate, "--confirm", "0"),
            run("after", "gate", "--budget", "latency-p50=20ms", *COUNTED),
        ],
    )
    verified, profiled, updated, *same, slower, in_time = said
    assert verified.code == updated.code == 0, (verified.err, updated.err)
    profile = json.loads(profiled.out)
    assert profile["before"]["architecture"] == "aarch64" and "asimddp" in profile["before"]["instruction_sets"]
    assert profile["latency"] is None and profile["instructions"]["how"] == "emulated"
    for one in same:
        assert one.code == 0 and changes(one)["instructions"] == pytest.approx(0.0, abs=0.3)
    assert slower.code == 1 and 1.5 < changes(slower)["instructions"] < 2.5
    assert in_time.code == 3 and "tells no time" in in_time.out


def run(folder: str, *arguments: str) -> list[str]:
    return ["python3", f"{folder}/run.pyz", *arguments, "--artifact", folder]


def changes(finished: Finished) -> dict[str, float]:
    """Return by how many percent each figure changed."""
    checks = json.loads(finished.out)["checks"]
    ratios = {one["figure"]: (one["ratio"] or {}).get("value") for one in checks}
    return {name: 100 * (ratio - 1) for name, ratio in ratios.items() if ratio is not None}
