"""From an image to the numbers a network was trained on, with numpy only."""

import math
from collections.abc import Sequence

import numpy as np

from .arrays import Array
from .errors import DeviceError


def normalize(images: Array, scale: float, mean: Sequence[float], std: Sequence[float], layout: str = "NCHW") -> Array:
    """Return `(images * scale - mean) / std` as float32.

    Args:
        images: (N, C, H, W), or (N, H, W, C) where `layout` says so; uint8 or float. Other ranks from 2 work as well.
        scale: Factor on the raw values, such as 1/255.
        mean: One value, or one a channel, in scaled units.
        std: One value, or one a channel, in scaled units.
        layout: `NCHW` or `NHWC`.

    Raises:
        DeviceError: The rank or the number of channels does not fit.
    """
    if images.ndim < 2:
        raise DeviceError(f"images have shape {list(images.shape)}, expected {layout}")
    axis = 1 if layout == "NCHW" else images.ndim - 1
    channels = images.shape[axis]
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise DeviceError(
            f"images with {channels} channel(s) cannot be normalized with {len(mean)} mean and {len(std)} std value(s)"
        )
    along = [1] * images.ndim
    along[axis] = -1
    means = np.asarray(mean, np.float32).reshape(along)
    stds = np.asarray(std, np.float32).reshape(along)
    normalized: Array = (images.astype(np.float32) * np.float32(scale) - means) / stds
    return normalized


def resize_center_crop(image: Array, height: int, width: int) -> Array:
    """Shrink or enlarge an image until it just covers (height, width), then cut the centre out.

    Bilinear with a triangle filter that widens when it shrinks, as in Pillow; results are within one or two grey levels
    of Pillow's.

    Args:
        image: (H, W, C), uint8.
        height: Of the result, in pixels.
        width: Of the result, in pixels.

    Returns:
        (height, width, C), uint8.

    Raises:
        DeviceError: The image is not (H, W, C) uint8, or a size is 0.
    """
    if image.ndim != 3 or image.dtype != np.uint8:
        raise DeviceError(f"an image is (height, width, channels) uint8, not {list(image.shape)} {image.dtype}")
    old_height, old_width, channels = image.shape
    if min(old_height, old_width, height, width) < 1:
        raise DeviceError(f"cannot resize an image of {old_height} x {old_width} to {height} x {width} pixels")
    factor = max(height / old_height, width / old_width)
    rows = _bilinear_weights(old_height, max(height, round(old_height * factor)), height)
    columns = _bilinear_weights(old_width, max(width, round(old_width * factor)), width)
    squeezed = rows @ image.reshape(old_height, -1).astype(np.float32)
    result = columns @ squeezed.reshape(height, old_width, channels)
    cropped: Array = np.clip(np.rint(result), 0, 255).astype(np.uint8)
    return cropped


def _bilinear_weights(old: int, new: int, kept: int) -> Array:
    """Return (kept, old): what each kept pixel in the middle of `new` takes from each of the `old` ones."""
    step = old / new
    reach = max(1.0, step)
    first = math.floor((new - kept) / 2 + 0.5)
    centres = (np.arange(first, first + kept) + 0.5) * step
    distance = np.abs(np.arange(old)[None, :] + 0.5 - centres[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - distance)
    normalized: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalized
