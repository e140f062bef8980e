"""A small network, its file in every format, and the marker that no crafted file may create."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from .crafted import Marker, small_network, write_onnx


@pytest.fixture
def network() -> nn.Module:
    return small_network()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def marker(tmp_path: Path) -> Marker:
    """Return the file that the payload of a crafted file creates."""
    return Marker(tmp_path / "marker")


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: Marker) -> Iterator[Path]:
    """A package with a network, and with what a file must not get at: functions, re-exports, a program."""
    folder = tmp_path / "site" / "my_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "import os\nimport subprocess\nfrom os import system\n"
        "def run(command):\n    os.system(command)\n"
        "class Shell:\n    def __init__(self, command):\n        os.system(command)\n"
    )
    (folder / "nets.py").write_text(
        "import dataclasses, enum\nfrom torch import nn\n"
        "class Kind(enum.Enum):\n    WIDE = 'wide'\n"
        "@dataclasses.dataclass\nclass Settings:\n    width: int = 4\n    kind: Kind = Kind.WIDE\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.settings = Settings()\n"
        "        self.layer = nn.Linear(self.settings.width, 2)\n"
        "    def forward(self, x):\n        return self.layer(x)\n"
        "def build():\n    return Net()\n"
        "def build_text():\n    return 'no network'\n"
        "def fail():\n    raise RuntimeError('no such width')\n"
    )
    (folder / "__main__.py").write_text(f"open({str(marker.path)!r}, 'w')\nclass Net:\n    pass\n")
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One valid file of every format, all of the small network."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("good")
    network = small_network()
    example = torch.randn(2, 1, 6, 6)
    batch = torch.export.Dim("batch", min=1, max=64)
    files = {
        "module": folder / "module.pt",
        "state-dict": folder / "weights.pt",
        "legacy": folder / "legacy.pt",
        "safetensors": folder / "weights.safetensors",
        "torchscript": folder / "script.pt",
        "exported-program": folder / "exported.pt2",
        "onnx": folder / "model.onnx",
    }
    torch.save(network, files["module"])
    torch.save(network.state_dict(), files["state-dict"])
    torch.save(network.state_dict(), files["legacy"], _use_new_zipfile_serialization=False)
    save_file(network.state_dict(), files["safetensors"])
    torch.jit.trace(network, example).save(files["torchscript"])
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=({0: batch},)), files["exported-program"])
    write_onnx(files["onnx"])
    return files
