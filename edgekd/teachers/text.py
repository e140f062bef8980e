"""Texts as tensors: the bytes of UTF-8, a row a text."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgekd.errors import StageError


def text_tensor(texts: Sequence[str]) -> Tensor:
    """Return texts as bytes (N, L), uint8, filled up with zeros to the longest.

    Raises:
        StageError: a text holds the character of code 0, which ends a text.
    """
    encoded = [text.encode() for text in texts]
    if any(0 in row for row in encoded):
        raise StageError("a text holds the character of code 0, which no stored text may")
    rows = np.zeros((len(encoded), max(map(len, encoded), default=0)), np.uint8)
    for row, text in zip(rows, encoded, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    return torch.from_numpy(rows)


def texts_of(tensor: Tensor) -> list[str]:
    """Return the texts in a tensor of bytes (N, L), as `text_tensor` makes it.

    Raises:
        StageError: it is no tensor of bytes, or they are no UTF-8.
    """
    if tensor.dtype != torch.uint8 or tensor.ndim != 2:
        raise StageError(f"a tensor of dtype {tensor.dtype} and shape {tuple(tensor.shape)} holds no texts")
    try:
        return [bytes(row).rstrip(b"\0").decode() for row in tensor.cpu().numpy()]
    except UnicodeDecodeError as error:
        raise StageError(f"the bytes are no UTF-8: {error}") from error
