"""Prune, quantize and distill alone, together and in all six orders: `python benchmarks/orders/run.py`.

`edgekd bench` on `examples/fashion_mnist/model.pt`, with `recipe.toml`: every cell trains for equally many epochs, on the
first training images of Fashion-MNIST; its 10,000 test images judge. Each seed prunes to the same share of operations.

Needs Debian's dataset-fashion-mnist and a machine with nothing else to do. A run that was cut off goes on where it was.
Writes `results.json`, `results.md` and `results.svg` beside this script.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgekd.data.idx import read_idx
from edgekd.device.machine import read_machine, warnings

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODEL = ROOT / "examples" / "fashion_mnist" / "model.pt"
IMAGES = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
TARGET = "generic-x86"  # this machine is one


def write_data(path: Path, images: int) -> None:
    """Write the first training images, and all test images, held out, as an `.npz`."""
    parts = [
        (
            read_idx(IMAGES / f"{part}-images-idx3-ubyte.gz")[:most],
            read_idx(IMAGES / f"{part}-labels-idx1-ubyte.gz")[:most],
        )
        for part, most in (("train", images), ("t10k", None))
    ]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, x=x[:, None], y=y.astype(np.int64), held_out=np.arange(len(x)) >= images)


def main() -> None:
    """Run the command and keep its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "orders", help="data and run directory (%(default)s)"
    )
    parser.add_argument("--images", type=int, default=6_000, help="to train, calibrate and decide with (%(default)s)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for warning in warnings(read_machine()):
        print(f"warning: {warning}", file=sys.stderr)
    data = arguments.work / f"first-{arguments.images}.npz"
    write_data(data, arguments.images)
    command = [sys.executable, "-m", "edgekd", "bench", MODEL, "--target", TARGET, "--recipe", HERE / "recipe.toml"]
    command += ["--data", data, "-o", arguments.work / "run", "--epochs", arguments.epochs, "--seeds", arguments.seeds]
    command += ["--threads", arguments.threads]
    subprocess.run([str(word) for word in command], check=True)
    for kind in ("json", "md", "svg"):
        shutil.copyfile(arguments.work / "run" / f"bench.{kind}", HERE / f"results.{kind}")


if __name__ == "__main__":
    main()
