"""Train the two networks of this example on Fashion-MNIST: `model.pt`, and a stronger `teacher.pt`.

Run `python examples/fashion_mnist/train.py --help`. Both files hold a whole pickled module of the bundled networks,
so `edgekd` reads them by its safe path. The number of epochs is fixed beforehand and the last weights are kept: the
test images are looked at once, at the end.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.data.idx import read_idx
from edgekd.models.networks.resnet8 import ResNet8

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
MEAN, STD = 0.2860, 0.3530

NETWORKS = {
    "model": dict(widths=(32, 64, 128), epochs=30, learning_rate=0.15),
    "teacher": dict(widths=(64, 128, 256), epochs=16, learning_rate=0.15),
}


def load(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, 28, 28), normalised float32, and labels (N,), int64, of `train` or `t10k`."""
    images = torch.from_numpy(read_idx(folder / f"{part}-images-idx3-ubyte.gz").copy())
    labels = torch.from_numpy(read_idx(folder / f"{part}-labels-idx1-ubyte.gz").copy())
    return (images[:, None].float() / 255 - MEAN) / STD, labels.long()


def augment(images: Tensor) -> Tensor:
    """Flip each image with probability one half and shift the batch by up to two pixels."""
    flip = torch.rand(len(images)) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    rows, columns = torch.randint(0, 5, (2,)).tolist()
    padded = functional.pad(images, (2, 2, 2, 2), value=-MEAN / STD)
    return padded[:, :, rows : rows + 28, columns : columns + 28]


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of right answers, in percent."""
    model.eval()
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return 100 * hits / len(labels)


def train(name: str, folder: Path, batch_size: int, bfloat16: bool) -> nn.Module:
    """Train one network with SGD, a one-cycle learning rate and weight decay."""
    settings = NETWORKS[name]
    torch.manual_seed(0)
    images, labels = load(folder, "train")
    model = ResNet8(settings["widths"], num_classes=10, in_channels=1).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=settings["learning_rate"], momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    steps = len(images) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings["learning_rate"], total_steps=settings["epochs"] * steps, pct_start=0.25
    )
    for epoch in range(settings["epochs"]):
        model.train()
        start, total = time.monotonic(), 0.0
        order = torch.randperm(len(images))
        for step in range(steps):
            batch = order[step * batch_size : (step + 1) * batch_size]
            inputs = augment(images[batch]).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(inputs)
            loss = functional.cross_entropy(logits.float(), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"{name} epoch {epoch + 1:2}: loss {total / steps:.4f}, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{name}: {accuracy(model, *load(folder, 't10k')):.2f} % on the 10,000 test images", flush=True)
    return model.to(memory_format=torch.contiguous_format)


def main() -> None:
    """Train the networks named on the command line and write them beside this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(NETWORKS), help="train one of the two")
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--float32", action="store_true", help="train without bfloat16 autocast")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else NETWORKS:
        model = train(name, arguments.data, arguments.batch_size, bfloat16=not arguments.float32)
        torch.save(model.eval(), Path(__file__).with_name(f"{name}.pt"))


if __name__ == "__main__":
    main()
