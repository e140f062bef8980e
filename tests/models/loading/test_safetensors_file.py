"""safetensors: good files load, damaged and crafted ones are refused."""

import json
from pathlib import Path

import pytest
import torch

from edgekd.errors import InputError
from edgekd.models.loading import load_network
from edgekd.models.loading.safetensors_file import load_safetensors

from .crafted import FACTORY


def test_tensors_round_trip(good_files: dict[str, Path]) -> None:
    tensors = load_safetensors(good_files["safetensors"])
    assert tensors["0.weight"].shape == (4, 1, 3, 3) and tensors["0.weight"].dtype == torch.float32


def crafted(path: Path, header: object, size: int | None = None, data: bytes = bytes(16)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + data)
    return path


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"w": entry([4], 0, 16)}, 10**9),
        ({"w": entry([4], 0, 16)}, 2**63),
        (b'{"w": not json at all}', None),
        (b'{"w":' * 5000, None),
        ({"w": entry([4], 0, 64)}, None),
        ({"w": entry([400], 0, 16)}, None),
        ({"w": entry([4], 0, 16), "v": entry([4], 0, 16)}, None),
        ({"w": entry([2**40, 2**40], 0, 16)}, None),
        ({"w": entry([4], 0, 16, "NO_TYPE")}, None),
        ({"w": 3}, None),
    ],
)
def test_bad_headers_are_refused(header: object, size: int | None, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_network(crafted(tmp_path / "w.safetensors", header, size), factory=FACTORY)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = crafted(tmp_path / "w.safetensors", {"w": entry([4], 0, 16)})
    with pytest.raises(InputError, match="does not fit the network"):
        load_network(path, factory=FACTORY)
