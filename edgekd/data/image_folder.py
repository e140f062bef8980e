"""Image folders: one folder a class, or images without labels; `train/` and `test/` halves are respected."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.data.dataset import Dataset
from edgekd.errors import InputError
from edgekd.models.signature import Signature

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
HELD_OUT = ("test", "val", "validation", "evaluation")


def load_image_folder(folder: Path, signature: Signature, limit: int) -> Dataset:
    """Read a folder of images into unsigned bytes (N, C, H, W), resized and centre-cropped to the model's input.

    Sub-folders are classes, in the order of the signature's labels if their names are these, else sorted. A folder
    that holds `train/` and one of `test/`, `val/`, `validation/`, `evaluation/` keeps that one for evaluation. Images
    without class folders are unlabelled.

    Raises:
        InputError: no images, an unreadable image, or a model that takes no image.
    """
    spec = signature.inputs[0]
    if len(signature.inputs) != 1 or len(spec.shape) != 4 or spec.shape[1] not in (1, 3):
        raise InputError(f"an image folder needs a model with one input (N, 1 or 3, H, W); it takes {signature.inputs}")
    held_out_folder = next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)
    split_by_source = held_out_folder is not None and (folder / "train").is_dir()
    roots = [folder / "train", held_out_folder] if split_by_source and held_out_folder else [folder]
    files = [(path, number) for number, root in enumerate(roots) for path in sorted(root.rglob("*")) if _is_image(path)]
    if not files:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    if len(files) > limit:
        keep = np.sort(np.random.default_rng(0).permutation(len(files))[:limit])
        files = [files[i] for i in keep]
    classes = sorted(
        {path.relative_to(roots[number]).parts[0] for path, number in files if path.parent != roots[number]}
    )
    labelled = bool(classes) and all(path.parent != roots[number] for path, number in files)
    if signature.labels and set(classes) <= set(signature.labels):
        classes = list(signature.labels)
    _, channels, height, width = spec.sized(1)
    images = np.stack([_read(path, channels, height, width) for path, _ in files])
    targets = [classes.index(path.relative_to(roots[number]).parts[0]) for path, number in files] if labelled else None
    return Dataset(
        inputs={spec.name: images},
        targets=None if targets is None else np.array(targets),
        held_out=np.array([number == 1 for _, number in files]) if split_by_source else None,
        labels=tuple(classes) if labelled else None,
        origin=folder.name,
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read(path: Path, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the image {path}: {error}; repair or remove it") from error
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
