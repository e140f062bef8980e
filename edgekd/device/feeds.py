"""From a person's `.npy` or `.npz` file, or from the self-check samples, to what the model is fed."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .arrays import Array, read_arrays
from .errors import CheckFailed, DeviceError
from .machine import available_memory_mib
from .manifest import Manifest, Preprocessing
from .preprocessing import normalize, resize_center_crop
from .runtimes.session import TensorInfo, check_shape, misfit
from .shapes import Shape

PADDING_MASKS = (
    "valid",
    "attention_mask",
)  # names of a mask that is 1 where a position counts and 0 where it is padding
NO_INPUTS = ("y", "held_out", "groups")  # what an .npz data set holds beside the inputs


def read_feeds(path: Path, manifest: Manifest) -> dict[str, Array]:
    """Return the model's inputs from a `.npy` file (a model with one input) or a `.npz` file (one array an input).

    An array may lack the batch dimension. A uint8 array for the first input is a raw image, (H, W, C), (C, H, W) or
    (H, W), or several of them; it is cut to size and goes through the manifest's preprocessing. Any other array is
    taken as already preprocessed. A data set for edgekd goes too: `x` is the one input, `y` and the like are left out.

    Raises:
        DeviceError: The file cannot be read or does not fit the model; the message says what is expected.
    """
    arrays = read_arrays(path)
    names = [info.name for info in manifest.inputs]
    if arrays.keys() == {""} and len(names) == 1:
        arrays = {names[0]: arrays[""]}
    if any(name.startswith("input.") for name in arrays):  # a samples file
        arrays = {name[len("input.") :]: array for name, array in arrays.items() if name.startswith("input.")}
    if len(names) == 1 and names[0] not in arrays and "x" in arrays:
        arrays[names[0]] = arrays.pop("x")
    arrays = {name: array for name, array in arrays.items() if name in names or name not in NO_INPUTS}
    if arrays.keys() != set(names):
        raise DeviceError(f"{path} holds {sorted(arrays)}, the model's inputs are {sorted(names)}")
    feeds = {}
    for position, info in enumerate(manifest.inputs):
        array = arrays[info.name]
        if array.size == 0:
            raise DeviceError(f"{path}: {info.name!r} holds no values")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DeviceError(f"{path}: {info.name!r} holds NaN or infinite values")
        if position == 0 and array.dtype == np.uint8 and manifest.preprocessing is not None:
            array = from_frames(array, info, manifest.preprocessing)
        feeds[info.name] = _fit(array, info)
    return feeds


def batch_size(feeds: dict[str, Array]) -> int:
    """Return the samples of a call."""
    return int(next(iter(feeds.values())).shape[0])


def refuse_too_large(needed_bytes: int) -> None:
    """Check that the inputs of a call fit, before they are made: they are copied on their way to the runtime.

    Raises:
        CheckFailed: They take more than half of the memory that is free.
    """
    free_mib = available_memory_mib()
    if free_mib is not None and needed_bytes > free_mib * 2**20 / 2:
        raise CheckFailed(
            f"the inputs of a call take {needed_bytes / 2**30:.3g} GiB, more than half of the {free_mib / 2**10:.3g} GiB of memory "
            "that are free here: a smaller --batch or --shape takes less"
        )


def repeated(array: Array, batch: int, dtype: str | None = None) -> Array:
    """Return so many samples, the given ones over and over.

    Raises:
        CheckFailed: They are too large for this machine.
    """
    samples = max(1, len(array))
    refuse_too_large(batch * max(8, array.nbytes // samples))  # 8 for its number
    return np.ascontiguousarray(array[np.arange(batch) % samples], dtype=dtype)


def batch_of(inputs: dict[str, Array], manifest: Manifest, batch: int | None) -> dict[str, Array]:
    """Return `batch` samples, repeating the given ones where there are too few.

    Without a batch it is the one the model was exported with, or 1 where that is free. An input that is the same for all
    samples keeps its own size beside free ones.

    Raises:
        DeviceError: The model was exported with another batch.
        CheckFailed: So many are too large for this machine.
    """
    if batch is not None and batch < 1:
        raise DeviceError(f"batch must be 1 or more, not {batch}")
    feeds = {}
    sizes = {info.name: info.shape[0] if info.shape else None for info in manifest.inputs}
    free = any(isinstance(size, str) for size in sizes.values())
    for info in manifest.inputs:
        array, size = inputs[info.name], sizes[info.name]
        fixed = size if isinstance(size, int) else None
        if fixed is not None and not free and batch not in (None, fixed):
            raise DeviceError(f"the model was exported with a fixed batch of {fixed}: use --batch {fixed}")
        feeds[info.name] = repeated(array, fixed or batch or 1, info.dtype)
    return feeds


def shapes_of(given: Sequence[tuple[str, Shape]], inputs: Sequence[TensorInfo], batch: int | None) -> dict[str, Shape]:
    """Return the shapes that a person gave, by the name of the input.

    Args:
        given: What `named_shape` returned.
        inputs: The model's.
        batch: Samples a call, where that was given as well.

    Raises:
        DeviceError: There is no such input, it is not clear which one is meant, or the model or the batch fixes another size.
    """
    found: dict[str, Shape] = {}
    known = {info.name: info for info in inputs}
    described = ", ".join(f"{info.name} {list(info.shape)}" for info in inputs)
    for name, shape in given:
        written = "x".join(map(str, shape))
        if not name and len(known) != 1:
            raise DeviceError(f"the model has several inputs ({described}): --shape NAME={written}")
        info = known.get(name or next(iter(known)))
        if info is None:
            raise DeviceError(f"the model has no input {name!r}; it has {described}")
        if (wrong := misfit(shape, info)) is not None:
            raise DeviceError(f"--shape {written}: {wrong}")
        if batch not in (None, shape[0]) and isinstance(info.shape[0], str):
            raise DeviceError(
                f"--shape {written} is a batch of {shape[0]}, --batch {batch} another one: give one of them"
            )
        found[info.name] = shape
    return found


def random_feeds(inputs: Iterable[TensorInfo], seed: int = 0) -> dict[str, Array]:
    """Return random arrays for inputs without free axes: normally distributed, or 0 and 1 where they are integers.

    A padding mask leaves nothing out: attention over a sample that is padding alone is not a number.

    Raises:
        CheckFailed: They are too large for this machine.
    """
    inputs = tuple(inputs)
    values = sum(math.prod(int(size) for size in info.shape) for info in inputs)
    refuse_too_large(8 * values)  # as which they are drawn, whatever they become
    generator = np.random.default_rng(seed)

    def draw(info: TensorInfo) -> Array:
        shape = tuple(int(size) for size in info.shape)
        if info.name in PADDING_MASKS:
            return np.ones(shape, info.dtype)
        drawn = generator.standard_normal(shape) if info.dtype.startswith("float") else generator.integers(0, 2, shape)
        return drawn.astype(info.dtype)

    return {info.name: draw(info) for info in inputs}


def from_frames(array: Array, info: TensorInfo, preprocessing: Preprocessing) -> Array:
    """Return raw values, such as one image (H, W, C) or several, in the model's layout and size.

    They are normalized unless the model does that itself.

    Raises:
        DeviceError: They are no images with the channels of this input.
    """
    values = _images(array, info, preprocessing.layout) if len(info.shape) == 4 else _with_batch(array, info)
    if preprocessing.inside_model:
        return values.astype(info.dtype)
    return normalize(values, preprocessing.scale, preprocessing.mean, preprocessing.std, preprocessing.layout)


def _images(array: Array, info: TensorInfo, layout: str) -> Array:
    """Return one image or several in the model's layout and size; the batch is the first dimension."""
    channels, height, width = (info.shape[layout.index(axis)] for axis in "CHW")
    images = array
    if channels == 1 and (images.ndim == 2 or (images.ndim == 3 and 1 not in (images.shape[0], images.shape[2]))):
        images = images[..., None]
    images = images[None] if images.ndim == 3 else images
    if images.ndim == 4 and images.shape[1] == channels and images.shape[3] != channels:
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or (isinstance(channels, int) and images.shape[3] != channels):
        raise DeviceError(f"input {info.name!r} takes images with {channels} channel(s), not shape {list(array.shape)}")
    if isinstance(height, int) and isinstance(width, int) and images.shape[1:3] != (height, width):
        images = np.stack([resize_center_crop(image, height, width) for image in images])
    return images.transpose(0, 3, 1, 2) if layout == "NCHW" else images


def _with_batch(array: Array, info: TensorInfo) -> Array:
    return array[None] if array.ndim == len(info.shape) - 1 else array


def _fit(array: Array, info: TensorInfo) -> Array:
    """Return the array with a batch dimension and the input's dtype, or refuse it."""
    array = _with_batch(array, info)
    free_batch = TensorInfo(info.name, ("batch", *info.shape[1:]) if info.shape else (), info.dtype)
    wrong = check_shape(array, free_batch)
    if wrong is not None:
        raise DeviceError(f"input {wrong}")
    if info.dtype not in np.sctypeDict or not np.can_cast(array.dtype, info.dtype, "same_kind"):
        raise DeviceError(f"input {info.name!r} has dtype {array.dtype}, expected {info.dtype}")
    return np.ascontiguousarray(array, dtype=info.dtype)
