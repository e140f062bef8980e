"""Image folders: one folder a class, or images without labels; `train/` and `test/` halves are respected."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.data.dataset import Dataset
from edgekd.device.machine import available_memory_mib
from edgekd.errors import InputError
from edgekd.models.signature import Signature

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
HELD_OUT = ("test", "val", "valid", "validation", "eval", "evaluation", "dev")
UNLABELLED = ("unlabelled", "unlabeled")  # folders of a classification whose samples have no label
NORMAL = ("good", "normal", "ok")  # folders of the task anomaly whose samples are normal, in any case of letters


def load_image_folder(folder: Path, signature: Signature, limit: int) -> Dataset:
    """Read a folder of images into unsigned bytes (N, C, H, W), resized and centre-cropped to the model's input.

    Sub-folders are classes, in the order of the signature's labels if there are any, else sorted. For the task anomaly
    a folder `good`, `normal` or `ok` is normal (0) and every other one anomalous (1); for the task embedding every folder
    is an identity. A folder that holds `train/` and one of `test/`, `val/`, `valid/`, `validation/`, `eval/`,
    `evaluation/`, `dev/` keeps that one for evaluation. Those of a folder `unlabelled` have no class (-1). Images without class folders are unlabelled, and so are those of
    tasks whose targets are no classes.

    Raises:
        InputError: no images, an unreadable image, images beside class folders, folders that are none of the labels, no
            normal folder, more pixels than memory, or a model that takes no image.
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
    _, channels, height, width = spec.sized(1)
    _check_memory(len(files) * channels * height * width, folder, limit)
    targets, labels = _classes(folder, [path.relative_to(roots[number]) for path, number in files], signature)
    images = np.empty((len(files), channels, height, width), np.uint8)
    for position, (path, _) in enumerate(files):
        images[position] = _read(path, channels, height, width)
    return Dataset(
        inputs={spec.name: images},
        targets=targets,
        held_out=np.array([number == 1 for _, number in files]) if split_by_source else None,
        labels=labels,
        origin=folder.name,
    )


def _classes(
    folder: Path, files: list[Path], signature: Signature
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Return the class index of every file by the folder that it lies in, and the labels; None without classes."""
    loose = [path for path in files if len(path.parts) == 1]
    if len(loose) == len(files) or signature.task not in ("classification", "anomaly", "embedding"):
        return None, None
    if loose:
        raise InputError(
            f"{folder} holds class folders and {len(loose)} images beside them, {loose[0].name} for one; "
            "move them into their class, or away"
        )
    names = [path.parts[0] for path in files]
    found = sorted(set(names))
    if signature.task == "anomaly":
        if not any(name.lower() in NORMAL for name in found):
            raise InputError(
                f"{folder} holds the folders {', '.join(found)}; the task anomaly needs one of normal samples, "
                f"named {', '.join(NORMAL[:-1])} or {NORMAL[-1]}"
            )
        return np.array([name.lower() not in NORMAL for name in names], np.int64), ("normal", "anomalous")
    if signature.task == "embedding":  # whoever they are: the network knows no classes
        return np.array([found.index(name) for name in names], np.int64), None
    without = {name for name in found if name.lower() in UNLABELLED and name not in (signature.labels or ())}
    found = [name for name in found if name not in without]
    if not found:
        return None, None
    labels = signature.labels or tuple(found)
    strangers = [name for name in found if name not in labels]
    if strangers:
        raise InputError(
            f"{folder}: the folders {', '.join(strangers[:10])} are none of the model's labels "
            f"({', '.join(labels[:10])}{', ...' if len(labels) > 10 else ''}); rename the folders or correct the labels"
        )
    return np.array([-1 if name in without else labels.index(name) for name in names], np.int64), labels


def _check_memory(wanted: int, folder: Path, limit: int) -> None:
    """Refuse images that would not fit into the memory that is free."""
    free = available_memory_mib()
    if free is not None and wanted > free * 2**20:
        raise InputError(
            f"the pixels of {folder} need {wanted / 2**20:,.0f} MiB and {free:,.0f} MiB of memory are free; "
            f"lower [data] limit (it is {limit:,})"
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
