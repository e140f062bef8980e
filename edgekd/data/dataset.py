"""A data set in memory, and its four disjoint parts."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekd.device.preprocessing import normalize
from edgekd.errors import InputError
from edgekd.models.signature import Signature

PartName = Literal["train", "calibration", "validation", "evaluation"]
Augmentation = Literal["horizontal-flip", "shift"]


@dataclass(frozen=True)
class Dataset:
    """Samples as arrays whose first axis counts them.

    `inputs` maps an input's name to raw values: unsigned bytes are preprocessed when a batch is made, floats are taken
    as they are. `targets` are class indices (N,), values (N, ...) or masks (N, H, W); None means unlabelled. `groups`
    (N,) keeps samples of one origin (photograph, speaker) in one part. `held_out` (N,) marks the samples that their
    source keeps for evaluation. `augmentations` are the changes that keep a sample's target.
    """

    inputs: dict[str, NDArray[Any]]
    targets: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    held_out: NDArray[np.bool_] | None = None
    labels: tuple[str, ...] | None = None
    augmentations: tuple[Augmentation, ...] = ()
    origin: str = "given in Python"
    licence: str = "not stated"

    def __post_init__(self) -> None:
        """Check that all arrays count the same samples and are finite."""
        if not self.inputs or any(array.ndim < 1 for array in self.inputs.values()):
            raise InputError(f"{self.origin}: a data set needs inputs whose first axis counts the samples")
        counts = {name: len(array) for name, array in self.inputs.items()}
        for name in ("targets", "groups", "held_out"):
            array = getattr(self, name)
            if array is not None:
                counts[name] = len(array)
        if len(set(counts.values())) != 1 or not len(self):
            raise InputError(f"{self.origin}: the arrays do not count the same samples, at least one: {counts}")
        for name, array in self.inputs.items():
            if array.dtype.kind not in "fiub":
                raise InputError(f"{self.origin}: {name} has dtype {array.dtype}; numbers are needed")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{self.origin}: {name} holds NaN or infinite values")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.inputs.values())))

    def digest(self) -> str:
        """Return a hash of everything that can change a result: values, targets and settings."""
        sha = hashlib.sha256()
        arrays = {**self.inputs, "targets": self.targets, "groups": self.groups, "held_out": self.held_out}
        for name, array in arrays.items():
            if array is not None:
                sha.update(f"{name} {array.dtype} {array.shape}".encode())
                sha.update(np.ascontiguousarray(array).tobytes())
        sha.update(repr(self.augmentations).encode())
        return sha.hexdigest()


@dataclass(frozen=True)
class Part:
    """One part of a data set: the samples at `indices`, made into the network's inputs batch by batch."""

    dataset: Dataset
    indices: NDArray[np.intp]
    signature: Signature

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    @property
    def targets(self) -> NDArray[Any] | None:
        """Return the targets of this part, or None."""
        return None if self.dataset.targets is None else self.dataset.targets[self.indices]

    def inputs(self, positions: NDArray[np.intp] | slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Return the samples at these positions of the part as the network wants them."""
        chosen = self.indices[positions]
        preprocessing = self.signature.preprocessing
        made = {}
        for spec in self.signature.inputs:
            raw = self.dataset.inputs[spec.name][chosen]
            if raw.dtype == np.uint8 and spec.dtype == "float32" and preprocessing is not None:
                raw = normalize(raw, preprocessing.scale, preprocessing.mean, preprocessing.std)
            made[spec.name] = np.ascontiguousarray(raw, dtype=spec.dtype)
        return made

    def batches(self, size: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the whole part in order, `size` samples at a time."""
        for start in range(0, len(self), size):
            yield self.inputs(slice(start, start + size))

    def raw(self) -> "Part":
        """Return the same samples as unsigned bytes, for a network that has the preprocessing inside."""
        inputs = tuple(spec.model_copy(update={"dtype": "uint8"}) for spec in self.signature.inputs)
        return Part(self.dataset, self.indices, self.signature.model_copy(update={"inputs": inputs}))

    def take(self, count: int) -> "Part":
        """Return the first `count` samples (they are in random order)."""
        return Part(self.dataset, self.indices[:count], self.signature)


@dataclass(frozen=True)
class Parts:
    """The four disjoint parts. Validation decides, evaluation only reports."""

    train: Part
    calibration: Part
    validation: Part
    evaluation: Part

    def sizes(self) -> dict[str, int]:
        """Return the number of samples of each part."""
        return {name: len(getattr(self, name)) for name in ("train", "calibration", "validation", "evaluation")}


def split(dataset: Dataset, signature: Signature, *, calibration: int, validation: float, evaluation: float) -> Parts:
    """Split a data set into its four parts, the same way every time.

    `calibration` is a number of samples; `validation` and `evaluation` are shares of what is not held out;
    `evaluation` counts only where the source holds nothing out. Groups stay whole. Labelled classes are spread evenly.

    Raises:
        InputError: an input of the signature is missing, its shape differs, there is one class only, a part would
            be empty, or a class has no sample in the calibration part.
    """
    check_inputs(dataset, signature)
    order = np.random.default_rng(20_260_101).permutation(len(dataset))
    if dataset.held_out is not None:
        reported = order[dataset.held_out[order]]
        rest = order[~dataset.held_out[order]]
    else:
        reported, rest = _cut(dataset, order, round(evaluation * len(dataset)))
    checked, rest = _cut(dataset, rest, round(validation * len(rest)))
    observed, trained = _cut(dataset, rest, min(calibration, len(rest)))
    parts = Parts(*(Part(dataset, chosen, signature) for chosen in (trained, observed, checked, reported)))
    empty = [name for name, size in parts.sizes().items() if not size and name != "train"]
    if empty:
        raise InputError(
            f"{dataset.origin}: {len(dataset)} samples leave nothing for {', '.join(empty)}; "
            "give more data, or smaller [data] calibration, validation or evaluation"
        )
    _check_classes(dataset, parts, signature)
    return parts


def check_inputs(dataset: Dataset, signature: Signature) -> None:
    """Check that a data set holds the inputs of a signature in their shapes.

    Raises:
        InputError: one is missing or has another shape.
    """
    for spec in signature.inputs:
        if spec.name not in dataset.inputs:
            names = ", ".join(dataset.inputs)
            raise InputError(f"{dataset.origin} has no input {spec.name!r}; it has {names}")
        shape = dataset.inputs[spec.name].shape[1:]
        if shape != spec.shape[1:]:
            raise InputError(
                f"{dataset.origin}: {spec.name} has shape {('N', *shape)}, the model takes {('N', *spec.shape[1:])}"
            )


def _check_classes(dataset: Dataset, parts: Parts, signature: Signature) -> None:
    if dataset.targets is None or signature.task != "classification":
        return
    if dataset.targets.ndim != 1 or dataset.targets.dtype.kind not in "iu":
        raise InputError(f"{dataset.origin}: the targets of a classification are class indices, one a sample")
    classes = np.unique(dataset.targets)
    if len(classes) < 2:
        raise InputError(f"{dataset.origin} has one class only; accuracy on it means nothing")
    missing = np.setdiff1d(classes, dataset.targets[parts.calibration.indices])
    if len(missing):
        raise InputError(
            f"the calibration part ({len(parts.calibration)} samples) lacks the classes {missing.tolist()[:10]}; "
            "raise [data] calibration, or give more samples of them"
        )


def _cut(dataset: Dataset, order: NDArray[np.intp], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Cut about `count` samples off a random order: whole groups, or evenly over the classes."""
    if dataset.groups is not None:
        groups = dataset.groups[order]
        _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
        turn = np.argsort(first)
        taken = turn[: int(np.searchsorted(np.cumsum(sizes[turn]), count)) + 1] if count else turn[:0]
        chosen = np.isin(groups, np.unique(groups)[taken])
        return order[chosen], order[~chosen]
    if dataset.targets is not None and dataset.targets.ndim == 1 and dataset.targets.dtype.kind in "iu":
        targets = dataset.targets[order]
        rank = np.empty(len(order), dtype=np.intp)
        for label in np.unique(targets):
            members = np.flatnonzero(targets == label)
            rank[members] = np.arange(len(members)) * len(order) // max(len(members), 1)
        order = order[np.argsort(rank, kind="stable")]
    return order[:count], order[count:]
