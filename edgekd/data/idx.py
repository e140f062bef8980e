"""The IDX format of the MNIST family: a big-endian header, then raw bytes, usually gzipped."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import InputError


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one gzipped IDX file of unsigned bytes; the shape is the one in its header.

    Raises:
        InputError: the file is missing, truncated or not a gzipped IDX file.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
        zero, dtype_code, rank = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
        if zero != 0 or dtype_code != 8:
            raise ValueError("its header is not the one of unsigned bytes")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise InputError(f"cannot read {path} as a gzipped IDX file: {error}") from error
