"""A data set in memory, and one part of it as a network takes it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekd.device.feeds import PADDING_MASKS
from edgekd.device.preprocessing import normalize
from edgekd.errors import InputError
from edgekd.models.signature import Signature

Augmentation = Literal["horizontal-flip", "shift"]
Positions = NDArray[np.intp] | slice
CLASS_MAPS = ("segmentation", "tokens")  # tasks with a class at every position, -1 where none counts


@dataclass(frozen=True)
class Dataset:
    """Samples as arrays whose first axis counts them.

    `inputs` maps an input's name to raw values: unsigned bytes are preprocessed when a batch is made, floats are taken
    as they are. `targets` belong to the first output: class indices (N,) (-1: no label), values (N, ...), masks (N, H, W) or tokens
    (N, L); None means unlabelled. `groups` (N,) keeps samples of one origin (photograph, speaker) in one part. `held_out`
    (N,) marks the samples that their source keeps for evaluation. `augmentations` are the changes that keep a sample's
    target. `origin` names the data in messages, `provenance` says who published them.

    `extras` are further arrays that losses, teachers and metrics may use: a teacher's inputs, correspondences, confidence,
    scores. Two kinds of names mean something: `targets.<output>` are the targets of a further output; `valid`, or
    `attention_mask`, is a padding mask (N, L) or (N, H, W), 1 where a position counts. An input of one of these two names
    that holds 0 and 1 only is a padding mask as well.
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
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all arrays count the same samples, that inputs are finite and extras are numbers."""
        if not self.inputs or any(array.ndim < 1 for array in self.inputs.values()):
            raise InputError(f"{self.origin}: a data set needs inputs whose first axis counts the samples")
        counts = {name: len(array) for name, array in self.inputs.items()}
        for name, array in (*self._others().items(), *self.extras.items()):
            if array.ndim < 1:
                raise InputError(f"{self.origin}: {name} is a single value; give one a sample")
            counts[name] = len(array)
        if len(set(counts.values())) != 1:
            raise InputError(f"{self.origin}: the arrays do not count the same samples: {counts}")
        if not len(self):
            raise InputError(f"{self.origin} is empty: its arrays hold no sample")
        for name, array in (*self.inputs.items(), *self.extras.items()):
            if array.dtype.kind not in "fiub":
                raise InputError(f"{self.origin}: {name} has dtype {array.dtype}; numbers are needed")
        for name, array in self.inputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{self.origin}: {name} holds NaN or infinite values")
        for name in PADDING_MASKS:
            if name in self.extras and not is_mask(self.extras[name]):
                raise InputError(f"{self.origin}: {name} is a padding mask, 1 where a position counts and 0 elsewhere")
        both = self.inputs.keys() & self.extras.keys()
        if both:
            raise InputError(f"{self.origin}: {', '.join(sorted(both))} is an input and an extra array; rename one")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.inputs.values())))

    def digest(self) -> str:
        """Return a hash of everything that can change a result: values, targets, extras and settings."""
        sha = hashlib.sha256()
        extras = {f"extras.{name}": self.extras[name] for name in sorted(self.extras)}
        for name, array in {**self.inputs, **self._others(), **extras}.items():
            sha.update(f"{name} {array.dtype} {array.shape}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        sha.update(repr(self.augmentations).encode())
        return sha.hexdigest()

    @cached_property
    def padding(self) -> NDArray[np.bool_] | None:
        """Return the padding mask, true where a position counts: an extra before an input, or None."""
        for arrays in (self.extras, self.inputs):
            for name in PADDING_MASKS:
                if name in arrays and is_mask(arrays[name]):
                    return arrays[name].astype(bool)
        return None

    @cached_property
    def group_numbers(self) -> NDArray[np.int64] | None:
        """Return the group of every sample (N,) as a number from 0, or None."""
        return None if self.groups is None else np.unique(self.groups, return_inverse=True)[1].astype(np.int64)

    def _others(self) -> dict[str, NDArray[Any]]:
        others = {"targets": self.targets, "groups": self.groups, "held_out": self.held_out}
        return {name: array for name, array in others.items() if array is not None}


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
        """Return the targets of this part, as `targets_at` does."""
        return self.targets_at()

    def targets_at(self, positions: Positions = slice(None)) -> NDArray[Any] | None:
        """Return the targets at these positions of the part, or None; of masks and tokens -1 where none counts."""
        if self.dataset.targets is None:
            return None
        chosen = self.dataset.targets[self.indices[positions]]
        if self.signature.task not in CLASS_MAPS:
            return chosen
        chosen, counted = class_masks(chosen), self._padding(positions)
        return chosen if counted is None or counted.shape != chosen.shape else np.where(counted, chosen, -1)

    def valid(self, positions: Positions = slice(None)) -> NDArray[np.bool_] | None:
        """Return which elements count at these positions of the part, or None where all do.

        A boolean (N, L), (N, H, W) or (N,): where masks and tokens have a target, else the padding mask.
        """
        if self.signature.task in CLASS_MAPS:
            targets = self.targets_at(positions)
            if targets is not None:
                return np.asarray(targets >= 0)
        return self._padding(positions)

    def labelled(self, positions: Positions = slice(None)) -> NDArray[np.bool_] | None:
        """Return which samples at these positions have a class, (N,), or None where all samples of the part have one."""
        if self.signature.task != "classification" or not self._partly_labelled:
            return None
        chosen = self.targets_at(positions)
        return None if chosen is None else np.asarray(chosen >= 0)

    def with_labels(self) -> "Part":
        """Return the samples that can be judged: without those of a classification that have no label (class -1)."""
        known = self.labelled()
        return self if known is None else replace(self, indices=self.indices[known])

    @cached_property
    def _partly_labelled(self) -> bool:
        return self.targets is not None and bool((self.targets < 0).any())

    def groups(self, positions: Positions = slice(None)) -> NDArray[np.int64] | None:
        """Return the group numbers (N,) at these positions of the part, or None."""
        numbers = self.dataset.group_numbers
        return None if numbers is None else numbers[self.indices[positions]]

    def extras(self, positions: Positions = slice(None)) -> dict[str, NDArray[Any]]:
        """Return all further arrays at these positions of the part: extras, and inputs that the network does not take.

        They are as the data set holds them; nothing is preprocessed.
        """
        chosen, taken = self.indices[positions], {spec.name for spec in self.signature.inputs}
        others = {name: array for name, array in self.dataset.inputs.items() if name not in taken}
        return {
            name: np.ascontiguousarray(array[chosen], dtype=array.dtype.newbyteorder("="))
            for name, array in {**others, **self.dataset.extras}.items()
        }

    def inputs(self, positions: Positions = slice(None)) -> dict[str, NDArray[Any]]:
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

    def _padding(self, positions: Positions) -> NDArray[np.bool_] | None:
        mask = self.dataset.padding
        return None if mask is None else mask[self.indices[positions]]


def class_masks(targets: NDArray[Any]) -> NDArray[Any]:
    """Return masks (N, H, W) or tokens (N, L) of class indices with -1 for what is ignored.

    A channel axis of one, (N, 1, H, W), is dropped. Ignored are negative values, and 255 in masks of bytes.
    """
    if targets.ndim == 4 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.dtype.kind in "ub":
        masks = targets.astype(np.int64)
        return np.where(masks == 255, -1, masks) if targets.dtype == np.uint8 else masks
    return np.maximum(targets, -1)


def is_mask(array: NDArray[Any]) -> bool:
    """Return whether an array holds 0 and 1 only."""
    return array.dtype == bool or bool(np.isin(array, (0, 1)).all())
