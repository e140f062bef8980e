"""The command line in this process, a small pickled network with its data, and what `export` and `quantize` make of it."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd import host
from edgekd.cli import main
from edgekd.data import Dataset
from edgekd.models.networks.resnet8 import ResNet8

LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
SIDECAR = f"""\
data = "images.npz"
labels = {LABELS}
[[inputs]]
name = "image"
shape = ["batch", 1, 28, 28]
[preprocessing]
scale = 0.00392156862745098
mean = [0.2860]
std = [0.3530]
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def run_cli(*arguments: object) -> Outcome:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", ["edgekd", *map(str, arguments)])
        main()
    code = ended.value.code
    assert isinstance(code, int), code
    assert "Traceback" not in err.getvalue() or "--debug" in arguments
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run command lines in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run_cli


@pytest.fixture(scope="session", autouse=True)
def _short_measurements() -> Iterator[None]:
    """Time little: how precise latency is, is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        short = partial(host.interleave, warmup_s=0.02)
        patch.setattr(host, "interleave", lambda runs, **_: short(runs, blocks=6, block_ms=2.0))
        yield


@pytest.fixture(scope="session")
def model(fashion: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pickled network, its sidecar, and 600 real images."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    torch.save(ResNet8((8, 16, 16), num_classes=10, in_channels=1).eval(), folder / "model.pt")
    (folder / "model.toml").write_text(SIDECAR, encoding="utf-8")
    assert fashion.held_out is not None and fashion.targets is not None
    chosen = np.r_[np.flatnonzero(~fashion.held_out)[:500], np.flatnonzero(fashion.held_out)[:100]]
    np.savez(
        folder / "images.npz",
        image=fashion.inputs["image"][chosen],
        y=fashion.targets[chosen],
        held_out=fashion.held_out[chosen],
    )
    return folder / "model.pt"


@pytest.fixture(scope="session")
def data(model: Path) -> Path:
    """The images of the model."""
    return model.parent / "images.npz"


@pytest.fixture(scope="session")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of an export in float."""
    folder = tmp_path_factory.mktemp("runs") / "exported"
    outcome = run_cli("export", model, "-t", "raspberry-pi-5", "-o", folder, "--include-samples")
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="session")
def quantized(model: Path, exported: Path) -> Path:
    """The run directory of an int8 quantization."""
    folder = exported.parent / "quantized"
    outcome = run_cli("quantize", model, "-t", "raspberry-pi-5", "-o", folder, "--calibrator", "min-max")
    assert outcome.code == 0, outcome.err
    return folder
