"""The four disjoint parts of a data set."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekd.data.dataset import CLASS_MAPS, Dataset, Part, class_masks
from edgekd.data.fit import check_fit
from edgekd.errors import InputError
from edgekd.models.signature import Signature

PartName = Literal["train", "calibration", "validation", "evaluation"]


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
    holds nothing out. Groups stay whole. Labelled classes are spread evenly. Samples without a label (class -1) are trained
    on, as far as nothing of their group is in another part; those held out are left out.

    Raises:
        InputError: the data do not fit the signature, there is no label or one class only, a part would be empty, or a class has no
            sample in the calibration part.
    """
    check_fit(dataset, signature)
    order = np.random.default_rng(20_260_101).permutation(len(dataset))
    order, unlabelled = _by_label(dataset, order, signature)
    if dataset.held_out is not None:
        reported = order[dataset.held_out[order]]
        rest = order[~dataset.held_out[order]]
    else:
        reported, rest = _cut(dataset, order, round(evaluation * len(order)))
    checked, rest = _cut(dataset, rest, round(validation * len(rest)))
    observed, trained = _cut(dataset, rest, min(calibration, int(largest_calibration * len(rest))))
    trained = np.concatenate([trained, _of_no_other_group(dataset, unlabelled, [observed, checked, reported])])
    parts = Parts(*(Part(dataset, chosen, signature) for chosen in (trained, observed, checked, reported)))
    empty = [name for name, size in parts.sizes().items() if not size and name != "train"]
    if empty:
        raise InputError(
            f"{dataset.origin}: {len(dataset) - len(unlabelled)} {'labelled ' if len(unlabelled) else ''}samples leave nothing for {', '.join(empty)}; "
            "give more data, or smaller [data] calibration, validation or evaluation"
        )
    _check_classes(dataset, parts, signature)
    return parts


def _by_label(
    dataset: Dataset, order: NDArray[np.intp], signature: Signature
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the samples with a label (all, where the targets are no classes), and those that have none but may be used.

    Raises:
        InputError: no sample has one.
    """
    if signature.task != "classification" or dataset.targets is None:
        return order, order[:0]
    labelled = dataset.targets[order] >= 0
    if not labelled.any():
        raise InputError(f"{dataset.origin}: no sample has a label, all targets are -1; leave the targets out")
    unlabelled = order[~labelled]
    return order[labelled], unlabelled if dataset.held_out is None else unlabelled[~dataset.held_out[unlabelled]]


def _of_no_other_group(dataset: Dataset, chosen: NDArray[np.intp], others: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    if dataset.groups is None:
        return chosen
    return chosen[~np.isin(dataset.groups[chosen], dataset.groups[np.concatenate(others)])]


def _check_classes(dataset: Dataset, parts: Parts, signature: Signature) -> None:
    """Refuse targets that tell nothing apart, and classes that the calibration part lacks."""
    task, targets = signature.task, dataset.targets
    if targets is not None and task in CLASS_MAPS and not (class_masks(targets) >= 0).any():
        raise InputError(f"{dataset.origin} has no target that counts: all are marked to be ignored; leave them out")
    if targets is None or task not in ("classification", "embedding"):
        return
    classes = np.unique(targets[targets >= 0] if task == "classification" else targets)
    if len(classes) < 2:
        raise InputError(
            f"{dataset.origin} has one class only; {'accuracy' if task == 'classification' else 'recall'} on it means "
            "nothing: give data of two classes at least, or leave the labels out"
        )
    if task != "classification":
        return
    missing = np.setdiff1d(classes, targets[parts.calibration.indices])
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
