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
    except (OSError, ValueError) as error:
        raise InputError(f"{kind}: {table}: {error}") from error
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating) or not np.isfinite(rows).all():
        raise InputError(f"{kind}: {table}: rows of finite floats (R, D) are needed, not {rows.dtype} {rows.shape}")
    return torch.from_numpy(rows)
