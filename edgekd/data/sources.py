"""Where data come from: a set of `calibration/`, a folder of images, an `.npz`, or `package.module:function`."""

import difflib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.code import import_object
from edgekd.data.calibration_sets import load_calibration_set, set_names
from edgekd.data.dataset import Dataset
from edgekd.data.image_folder import load_image_folder
from edgekd.device.feeds import PADDING_MASKS
from edgekd.errors import InputError
from edgekd.models.signature import Signature

_KNOWN = ("targets", "y", "groups", "held_out")


def load_dataset(source: str | Path, signature: Signature, *, limit: int = 60_000) -> Dataset:
    """Read the data named by `source`; at most `limit` images of a folder, chosen at random but always the same.

    Raises:
        InputError: there is no such data, or they cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return load_image_folder(path, signature, limit)
    if path.is_file():
        if path.suffix != ".npz":
            raise InputError(f"{path} is not data that edgekd reads: give an image folder, an .npz or module:function")
        return load_npz(path, signature)
    if str(source) in set_names():
        return load_calibration_set(str(source), signature)
    if ":" in str(source):
        return load_function(str(source), signature)
    nearest = difflib.get_close_matches(str(source), set_names(), n=2)
    hint = f" (nearest set: {', '.join(nearest)})" if nearest else f" (sets: {', '.join(set_names())})"
    raise InputError(f"no data {str(source)!r}: no such folder or file, no set of that name{hint}")


def load_npz(path: Path, signature: Signature) -> Dataset:
    """Read an `.npz`: one array an input (or `x`), and `y` or `targets`, `groups`, `held_out` where there are any.

    Every other array of numbers that has a row a sample becomes one of the data set's `extras`; the rest is left out.

    Raises:
        InputError: the file is damaged, holds Python objects or lacks an input.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except RuntimeError as error:  # the words of zipfile for an encrypted archive
        raise InputError(f"cannot read {path}: {error}; write it without a password") from error
    except TypeError as error:  # a plain .npy under another name is one array, no archive
        raise InputError(f"cannot read {path}: it holds one array without a name; write it with np.savez") from error
    return _from_arrays(arrays, signature, origin=path.name)


def load_function(name: str, signature: Signature) -> Dataset:
    """Call `package.module:function()`; it returns a `Dataset`, a dictionary as an `.npz` holds, or (inputs, targets).

    Raises:
        InputError: it cannot be imported, is no function, fails, or returns something else.
    """
    function = import_object(name)
    if not callable(function):
        raise InputError(f"{name} is no function but {type(function).__name__}")
    try:
        made = function()
    except InputError:
        raise
    except Exception as error:  # the user's function may raise anything
        raise InputError(f"{name} fails: {type(error).__name__}: {error}") from error
    return as_dataset(made, signature, origin=name)


def as_dataset(data: Any, signature: Signature, origin: str = "given in Python") -> Dataset:
    """Make a data set of a `Dataset`, a dictionary of arrays, (inputs, targets) or one array.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, dict):
        return _from_arrays({name: np.asarray(array) for name, array in data.items()}, signature, origin)
    if isinstance(data, tuple) and len(data) == 2:
        inputs, targets = data
        if isinstance(inputs, dict):
            return _from_arrays({**inputs, "targets": np.asarray(targets)}, signature, origin)
        return _from_arrays({"x": np.asarray(inputs), "targets": np.asarray(targets)}, signature, origin)
    if hasattr(data, "__array__"):
        return _from_arrays({"x": np.asarray(data)}, signature, origin)
    raise InputError(f"{origin}: data of type {type(data).__name__}; give a Dataset, arrays or (inputs, targets)")


def _from_arrays(arrays: dict[str, NDArray[Any]], signature: Signature, origin: str) -> Dataset:
    names = [spec.name for spec in signature.inputs]
    if len(names) == 1 and names[0] not in arrays and "x" in arrays:
        arrays = {names[0] if name == "x" else name: array for name, array in arrays.items()}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"{origin} has no array {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}")
    targets = arrays.get("targets", arrays.get("y"))
    held_out = arrays.get("held_out")
    if held_out is not None and held_out.dtype.kind not in "biu":
        raise InputError(f"{origin}: held_out has dtype {held_out.dtype}; it is true or false a sample")
    return Dataset(
        inputs={name: arrays[name] for name in names},
        targets=targets,
        groups=arrays.get("groups"),
        held_out=None if held_out is None else held_out.astype(bool),
        origin=origin,
        extras=_extras(
            {name: array for name, array in arrays.items() if name not in (*names, *_KNOWN)}, arrays[names[0]]
        ),
    )


def _extras(others: dict[str, NDArray[Any]], samples: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of numbers with a row a sample, and those whose names mean something whatever they hold."""
    return {
        name: array
        for name, array in others.items()
        if name in PADDING_MASKS
        or name.startswith("targets.")
        or (array.ndim and array.dtype.kind in "fiub" and array.shape[:1] == samples.shape[:1])
    }
