"""Tables of vectors that a method is given: in the recipe itself, or in an .npy file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgekd.errors import InputError

Rows = Path | tuple[tuple[float, ...], ...]


def read_rows(kind: str, table: Rows) -> Tensor:
    """Return the rows (R, D).

    Args:
        kind: of the method, for messages.
        table: an .npy file (read without running anything that it holds), or the rows themselves.

    Raises:
        InputError: the file cannot be read, or there are no rows of finite floats.
    """
    try:
        rows = np.load(table, allow_pickle=False) if isinstance(table, Path) else np.array(table)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{kind}: {table}: {error}") from error
    if not isinstance(rows, np.ndarray):
        raise InputError(f"{kind}: {table} is an archive of arrays; give an .npy file of one")
    if rows.ndim != 2 or rows.dtype.kind != "f" or not np.isfinite(rows).all():
        raise InputError(f"{kind}: {table}: rows of finite floats (R, D) are needed, not {rows.dtype} {rows.shape}")
    return torch.from_numpy(rows.astype(np.float64 if rows.itemsize > 4 else np.float32))
