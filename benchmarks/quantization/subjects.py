"""The networks that the tools quantize: five trained here on Fashion-MNIST, and EfficientNet-Lite0 as it comes.

A subject is a folder: the model with its sidecar, `data.npz`, and `network.pt2`, the same network as a `torch.export`
archive for tools that begin with torch. What `data.npz` holds no network was trained on.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgekd.data.idx import read_idx
from edgekd.models.networks import GruClassifier, MobileNetV2, ResNet8, ViT

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "fashion_mnist" / "model.pt"
PREPARE = ROOT / "examples" / "efficientnet_lite0" / "prepare.py"
IMAGES = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
MEAN, STD = 0.2860, 0.3530
TRAINING_IMAGES = 20_000
BATCH = 128
SIDECAR = """\
task = "classification"
data = "data.npz"

[[inputs]]
name = "image"
shape = {shape}

[preprocessing]
scale = 0.00392156862745098
mean = [0.2860]
std = [0.3530]
"""


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained: passes over the training images, and the highest learning rate of AdamW."""

    build: Callable[[], nn.Module]
    epochs: int
    learning_rate: float
    as_inputs: Callable[[Any], Any] = lambda images: images


def _twice(images: Any) -> Any:
    """Return images (N, 1, 28, 28) with every pixel as two by two."""
    return images.repeat(2, axis=2).repeat(2, axis=3)


TRAINED = {
    "resnet8": Recipe(lambda: ResNet8(in_channels=1), 10, 1e-2),
    "mobilenet-v2": Recipe(lambda: MobileNetV2(0.35, 10, in_channels=1), 8, 5e-3, _twice),
    "vit": Recipe(lambda: ViT(28, 4, 96, 4, 4, 192, in_channels=1), 8, 2e-3),
    "gru": Recipe(lambda: GruClassifier(28, 128, 1, 10), 12, 5e-3, lambda images: images[:, 0]),
}
SUBJECTS = ("fashion-mnist", *TRAINED, "efficientnet-lite0")


def make(name: str, folder: Path, mate: Path) -> Path:
    """Make a subject's folder, where it is not there yet; return the model's path."""
    model = folder / ("efficientnet_lite0.pt2" if name == "efficientnet-lite0" else "model.pt")
    if (folder / "complete").exists():
        return model
    folder.mkdir(parents=True, exist_ok=True)
    if name == "efficientnet-lite0":
        subprocess.run([sys.executable, str(PREPARE), "-o", str(folder), "--mate", str(mate)], check=True)
        (folder / "photographs.npz").rename(folder / "data.npz")
        shutil.copyfile(model, folder / "network.pt2")
    else:
        recipe = TRAINED.get(name, Recipe(nn.Identity, 0, 0.0))
        images, labels = (array(folder_part("t10k", kind)) for array, kind in ((_raw, "images"), (read_idx, "labels")))
        inputs = recipe.as_inputs(images)
        np.savez(folder / "data.npz", image=inputs, targets=labels.astype(np.int64))
        if name == "fashion-mnist":
            shutil.copyfile(EXAMPLE, model)
            network = torch.load(model, weights_only=False)  # a file of this repository
        else:
            network = train(recipe)
            torch.save(network, model)
        shape = ["batch", *inputs.shape[1:]]
        (folder / "model.toml").write_text(SIDECAR.format(shape=str(shape).replace("'", '"')), encoding="utf-8")
        _archive(network, torch.zeros(2, *inputs.shape[1:]), folder / "network.pt2")
    (folder / "complete").touch()
    return model


def folder_part(part: str, kind: str) -> Path:
    """Return the file of images or labels of a part of Fashion-MNIST."""
    return IMAGES / f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"


def write_data(as_inputs: Callable[[Any], Any], chosen: slice, path: Path) -> None:
    """Write some of the training images of Fashion-MNIST, which the tools may use, and its test images, held out, as inputs."""
    parts = [[read_idx(folder_part(part, kind)) for kind in ("images", "labels")] for part in ("train", "t10k")]
    (images, labels), (judged, wanted) = parts
    images, labels = images[chosen], labels[chosen]
    np.savez(
        path,
        image=as_inputs(np.concatenate([images, judged])[:, None]),
        targets=np.concatenate([labels, wanted]).astype(np.int64),
        held_out=np.arange(len(images) + len(judged)) >= len(images),
    )


def _raw(path: Path) -> NDArray[np.uint8]:
    return read_idx(path)[:, None]


def train(recipe: Recipe) -> nn.Module:
    """Train a network on the first training images with AdamW, a one-cycle rate, flips and shifts."""
    torch.manual_seed(0)
    images = (_raw(folder_part("train", "images"))[:TRAINING_IMAGES].astype(np.float32) / 255 - MEAN) / STD
    labels = torch.from_numpy(read_idx(folder_part("train", "labels"))[:TRAINING_IMAGES].astype(np.int64))
    network = recipe.build().to(memory_format=torch.channels_last)
    steps = len(labels) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps)
    for epoch in range(recipe.epochs):
        total = 0.0
        for batch in torch.randperm(len(labels))[: steps * BATCH].split(BATCH):
            moved = _augmented(torch.from_numpy(images[batch.numpy()]))
            inputs = torch.from_numpy(np.ascontiguousarray(recipe.as_inputs(moved.numpy())))
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(network(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"{type(network).__name__} epoch {epoch + 1}: loss {total / steps:.4f}", flush=True)
    return network.eval().to(memory_format=torch.contiguous_format)


def _augmented(images: Tensor) -> Tensor:
    flip = torch.rand(len(images)) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    rows, columns = torch.randint(0, 5, (2,)).tolist()
    return functional.pad(images, (2, 2, 2, 2), value=-MEAN / STD)[:, :, rows : rows + 28, columns : columns + 28]


def _archive(network: nn.Module, example: Tensor, path: Path) -> None:
    free = torch.export.Dim("batch", min=1, max=65_536)
    with torch.no_grad():
        torch.export.save(torch.export.export(network.eval(), (example,), dynamic_shapes=({0: free},)), path)
