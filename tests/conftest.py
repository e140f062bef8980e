"""What all tests share: quiet tools, one thread, and a small real data set and network."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["NNCF_CI"] = "1"

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.data import Dataset
from edgekd.data.calibration_sets import load_calibration_set, set_signature
from edgekd.models.networks.resnet8 import ResNet8

SIDECAR = """\
data = "images.npz"
[[inputs]]
name = "image"
shape = ["batch", 1, 28, 28]
[preprocessing]
scale = 0.00392156862745098
mean = [0.2860]
std = [0.3530]
"""


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def fashion() -> Dataset:
    """The first 1,200 training and 400 test images of Fashion-MNIST."""
    whole = load_calibration_set("fashion-mnist", set_signature("fashion-mnist"))
    assert whole.held_out is not None and whole.targets is not None
    chosen = np.r_[np.flatnonzero(~whole.held_out)[:1200], np.flatnonzero(whole.held_out)[:400]]
    return Dataset(
        inputs={"image": whole.inputs["image"][chosen]},
        targets=whole.targets[chosen],
        held_out=whole.held_out[chosen],
        origin="Fashion-MNIST, a part",
        licence="MIT",
    )


def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    return ResNet8((16, 24, 32), num_classes=10, in_channels=1).eval()


@pytest.fixture
def network() -> nn.Module:
    return small_resnet()


@pytest.fixture(scope="session")
def trained(fashion: Dataset) -> nn.Module:
    """A small ResNet-8 that has learned something: a few epochs on the small set."""
    model = small_resnet().train()
    part = np.flatnonzero(~fashion.held_out)  # type: ignore[operator]
    images = (torch.from_numpy(fashion.inputs["image"][part]).float() / 255 - 0.286) / 0.353
    labels = torch.from_numpy(fashion.targets[part])  # type: ignore[index]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(4):
        order = torch.randperm(len(images))
        for batch in order.split(100):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def example(trained: nn.Module, fashion: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pickled `model.pt`, its sidecar and its data."""
    folder = tmp_path_factory.mktemp("example")
    torch.save(trained, folder / "model.pt")
    (folder / "model.toml").write_text(SIDECAR, encoding="utf-8")
    np.savez(folder / "images.npz", image=fashion.inputs["image"], y=fashion.targets, held_out=fashion.held_out)
    return folder
