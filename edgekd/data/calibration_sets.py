"""The sets of `calibration/`: a folder each, with `set.toml` (preprocessing, provenance, licence) and real samples."""

import tomllib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from edgekd.data.dataset import Augmentation, Dataset
from edgekd.data.idx import read_idx
from edgekd.errors import InputError
from edgekd.models.signature import Preprocessing, Signature, TensorSpec
from edgekd.resources import shipped
from edgekd.target import explain


class CalibrationSet(BaseModel):
    """`set.toml`: what the samples are, where they come from and how a network wants them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    origin: str
    licence: str
    format: Literal["idx"]
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    augmentations: tuple[Augmentation, ...] = ()
    full_set: str | None = None  # folder with the whole set where its package is installed
    full_set_package: str | None = None
    train: tuple[str, str]  # images, labels
    full_train: tuple[str, str] | tuple[()] = ()
    test: tuple[str, str]


def set_names() -> list[str]:
    """Return the names of the shipped sets."""
    return sorted(path.parent.name for path in shipped("calibration").glob("*/set.toml"))


def read_set(name: str) -> tuple[CalibrationSet, Path]:
    """Return the description of a set and its folder.

    Raises:
        InputError: its `set.toml` is wrong.
    """
    folder = shipped("calibration") / name
    try:
        return CalibrationSet.model_validate(tomllib.loads((folder / "set.toml").read_text(encoding="utf-8"))), folder
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read {folder / 'set.toml'}: {error}") from error
    except ValidationError as error:
        raise InputError(f"{folder / 'set.toml'}: {explain(error)}") from error


def load_calibration_set(name: str, signature: Signature) -> Dataset:
    """Read a set: its test samples are held out; its training samples are all there are on this machine.

    Raises:
        InputError: a file is missing or damaged, or the model takes inputs of another shape.
    """
    described, folder = read_set(name)
    full = Path(described.full_set) if described.full_set else None
    whole = full is not None and all((full / file).is_file() for file in described.full_train)
    train = (
        [read_idx(full / file) for file in described.full_train] if whole and full else _read(folder, described.train)
    )
    test = _read(folder, described.test)
    images = np.concatenate([train[0], test[0]]).reshape(-1, *described.shape)
    extent = f"{len(train[0]):,} training and {len(test[0]):,} test samples"
    return Dataset(
        inputs={signature.inputs[0].name: images},
        targets=np.concatenate([train[1], test[1]]).astype(np.int64),
        held_out=np.arange(len(images)) >= len(train[0]),
        labels=described.labels,
        augmentations=described.augmentations,
        origin=f"{name}: {described.title}, {extent}",
        provenance=described.origin,
        licence=described.licence,
    )


def set_signature(name: str) -> Signature:
    """Return the signature of a network that takes this set's samples."""
    described, _ = read_set(name)
    spec = TensorSpec(name="image", shape=("batch", *described.shape))
    return Signature(inputs=(spec,), preprocessing=described.preprocessing, labels=described.labels)


def _read(folder: Path, files: tuple[str, str]) -> list[np.ndarray]:
    return [read_idx(folder / file) for file in files]
