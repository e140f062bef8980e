"""Reads weights from a safetensors file, a format that can hold nothing but tensors."""

from pathlib import Path

from torch import Tensor

from edgekd.models.loading.reading import reading


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name."""
    from safetensors.torch import load_file

    with reading(path):
        return load_file(path)
