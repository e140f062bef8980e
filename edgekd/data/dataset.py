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
    source keeps for evaluation. `augmentations` are the changes that keep a sample's target. `origin` names the data in
    messages, `provenance` says who published them.
    """

    inputs: dict[str, NDArray[Any]]
    targets: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    held_out: NDArray[np.bool_] | None = None
    labels: tuple[str, ...] | None = None
    augmentations: tuple[Augmentation, ...] = ()
    origin: str = "given in Python"
    provenance: str = "not stated"
    licence: str = "not stated"

    def __post_init__(self) -> None:
        """Check that all arrays count the same samples and are finite."""
        if not self.inputs or any(array.ndim < 1 for array in self.inputs.values()):
            raise InputError(f"{self.origin}: a data set needs inputs whose first axis counts the samples")
        counts = {name: len(array) for name, array in self.inputs.items()}
        for name in ("targets", "groups", "held_out"):
            array = getattr(self, name)
            if array is not None:
                if array.ndim < 1:
                    raise InputError(f"{self.origin}: {name} is a single value; give one a sample")
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
        """Return the targets of this part, masks as `class_masks` makes them, or None."""
        return self.targets_at(slice(None))

    def targets_at(self, positions: NDArray[np.intp] | slice) -> NDArray[Any] | None:
        """Return the targets at these positions of the part, or None."""
        if self.dataset.targets is None:
            return None
        chosen = self.dataset.targets[self.indices[positions]]
        return class_masks(chosen) if self.signature.task == "segmentation" else chosen

    def inputs(self, positions: NDArray[np.intp] | slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Return the samples at these positions of the part as the network wants them."""
        chosen = self.indices[positions]
        preprocessing = self.signature.preprocessing
        made = {}
        for spec in self.signature.inputs:
            raw = self.dataset.inputs[spec.name][chosen]
            if raw.dtype == np.uint8 and spec.dtype.startswith("float") and preprocessing is not None:
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


def split(
    dataset: Dataset,
    signature: Signature,
    *,
    calibration: int,
    validation: float,
    evaluation: float,
    largest_calibration: float = 1.0,
) -> Parts:
    """Split a data set into its four parts, the same way every time.

    `calibration` is a number of samples, at most the share `largest_calibration` of what validation and evaluation
    leave; `validation` and `evaluation` are shares of what is not held out; `evaluation` counts only where the source
    holds nothing out. Groups stay whole. Labelled classes are spread evenly.

    Raises:
        InputError: the data do not fit the signature, there is one class only, a part would be empty, or a class has no
            sample in the calibration part.
    """
    check_fit(dataset, signature)
    order = np.random.default_rng(20_260_101).permutation(len(dataset))
    if dataset.held_out is not None:
        reported = order[dataset.held_out[order]]
        rest = order[~dataset.held_out[order]]
    else:
        reported, rest = _cut(dataset, order, round(evaluation * len(dataset)))
    checked, rest = _cut(dataset, rest, round(validation * len(rest)))
    observed, trained = _cut(dataset, rest, min(calibration, int(largest_calibration * len(rest))))
    parts = Parts(*(Part(dataset, chosen, signature) for chosen in (trained, observed, checked, reported)))
    empty = [name for name, size in parts.sizes().items() if not size and name != "train"]
    if empty:
        raise InputError(
            f"{dataset.origin}: {len(dataset)} samples leave nothing for {', '.join(empty)}; "
            "give more data, or smaller [data] calibration, validation or evaluation"
        )
    _check_classes(dataset, parts, signature)
    return parts


def class_masks(targets: NDArray[Any]) -> NDArray[Any]:
    """Return masks (N, H, W) of class indices with -1 for what is ignored.

    A channel axis of one, (N, 1, H, W), is dropped. Ignored are negative values, and 255 in masks of bytes.
    """
    if targets.ndim == 4 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.dtype.kind in "ub":
        masks = targets.astype(np.int64)
        return np.where(masks == 255, -1, masks) if targets.dtype == np.uint8 else masks
    return np.maximum(targets, -1)


def check_fit(dataset: Dataset, signature: Signature) -> None:
    """Check that a data set holds the inputs of a signature in their shapes, and targets of its task and first output.

    Raises:
        InputError: an input is missing or has another shape, or the targets are none of this task or of other classes.
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
    _check_targets(dataset, signature)


def _check_targets(dataset: Dataset, signature: Signature) -> None:
    targets, task = dataset.targets, signature.task
    if targets is None:
        return
    shape = signature.outputs[0].shape[1:] if signature.outputs else None
    given = f"{dataset.origin}: the targets have the shape {('N', *targets.shape[1:])} and dtype {targets.dtype}"
    if shape is not None:
        given += f", the network's {signature.outputs[0].name} {('N', *shape)}"
    if task in ("classification", "anomaly") and (targets.ndim != 1 or targets.dtype.kind not in "iu"):
        kind = "class indices" if task == "classification" else "0 for normal and 1 for anomalous"
        raise InputError(f"{given}; the targets of the task {task} are {kind}, integers (N,)")
    if task == "anomaly" and not np.isin(targets, (0, 1)).all():
        found = np.setdiff1d(targets, (0, 1)).tolist()[:10]
        raise InputError(f"{given}; they hold {found}: the task anomaly takes 0 for normal and 1 for anomalous samples")
    if task == "segmentation" and (class_masks(targets).ndim != 3 or targets.dtype.kind not in "iub"):
        raise InputError(
            f"{given}; the targets of the task segmentation are masks of class indices, integers (N, H, W)"
        )
    if task == "regression" and targets.dtype.kind not in "fiub":
        raise InputError(f"{given}; the targets of the task regression are numbers")
    if task == "regression" and targets.dtype.kind == "f" and not np.isfinite(targets).all():
        raise InputError(f"{given}; they hold NaN or infinite values")
    if shape is None or task == "anomaly":
        return
    if task == "regression" and targets[0].size != np.prod(signature.outputs[0].sized(1)):
        raise InputError(f"{given}; a regression needs a target for every value of the output")
    if task == "classification" and len(shape) != 1:
        raise InputError(f"{given}; the first output of a classification is (N, classes), or (N, 1) for two classes")
    if task == "classification" and dataset.labels is not None and len(dataset.labels) != max(2, int(shape[0])):
        raise InputError(
            f"{dataset.origin} has {len(dataset.labels)} classes ({', '.join(dataset.labels[:5])} ...) and the network "
            f"tells {max(2, int(shape[0]))}; list all labels in model.toml in the order of its outputs, or give the images "
            "in one folder, without classes"
        )
    if task == "segmentation" and (len(shape) != 3 or class_masks(targets).shape[1:] != shape[1:]):
        raise InputError(f"{given}; a segmentation needs masks of the output's height and width")
    if task in ("classification", "segmentation"):
        classes = max(2, int(shape[0]))
        values = np.unique(targets if task == "classification" else class_masks(targets))
        wrong = values[(values >= classes) | ((values < 0) & (task == "classification"))].tolist()
        if wrong:
            raise InputError(
                f"{given}, which tells {classes} classes; the targets hold {wrong[:10]}: they go from 0 to {classes - 1}"
            )


def _check_classes(dataset: Dataset, parts: Parts, signature: Signature) -> None:
    if dataset.targets is None or signature.task != "classification":
        return
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
