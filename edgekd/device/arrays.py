"""Read and write numpy arrays without pickle."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DeviceError
from .files import write_atomically

Array = NDArray[Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of a `.npz` file by name, or the one of a `.npy` file under the name "".

    Raises:
        DeviceError: The file is missing, damaged, or holds pickled objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise DeviceError(f"{path} does not exist") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DeviceError(
            f"{path} is not a readable .npy or .npz file (pickled objects are refused): {_first_line(error)}"
        ) from error


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an uncompressed `.npz` file atomically; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    write_atomically(path, buffer.getvalue())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
