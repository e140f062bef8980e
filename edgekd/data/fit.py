"""Whether a data set fits a network: its inputs, and the targets of its task."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.data.dataset import CLASS_MAPS, Dataset, class_masks
from edgekd.errors import InputError
from edgekd.models.signature import Signature, Task, class_axis

# What the targets of a task are, where they are integers.
INTEGERS: dict[Task, str] = {
    "classification": "class indices, integers (N,), -1 for a sample without a label",
    "anomaly": "0 for normal and 1 for anomalous, integers (N,)",
    "embedding": "the identity or class of every sample, integers (N,)",
    "segmentation": "masks of class indices, integers (N, H, W)",
    "tokens": "class indices, integers (N, L), -1 for padding",
}


def check_fit(dataset: Dataset, signature: Signature) -> None:
    """Check that a data set holds the inputs of a signature in their shapes, and targets of its task and outputs.

    Raises:
        InputError: an input is missing or has another shape, or the targets are none of this task, of other classes or
            of an output that the network lacks.
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
    _check_further(dataset, signature)
    if dataset.targets is None:
        return
    _check_kind(dataset, dataset.targets, signature)
    if signature.outputs and signature.task != "anomaly":
        _check_shape(dataset, dataset.targets, signature)
        _check_values(dataset, dataset.targets, signature)


def _given(dataset: Dataset, targets: NDArray[Any], signature: Signature) -> str:
    text = f"{dataset.origin}: the targets have the shape {('N', *targets.shape[1:])} and dtype {targets.dtype}"
    if not signature.outputs:
        return text
    return f"{text}, the network's {signature.outputs[0].name} {('N', *signature.outputs[0].shape[1:])}"


def _check_further(dataset: Dataset, signature: Signature) -> None:
    """Refuse targets of an output that the network does not have, or has as its first."""
    further = [spec.name for spec in signature.outputs[1:]]
    for name in dataset.extras:
        kind, dot, output = name.partition(".")
        if signature.outputs and kind == "targets" and dot and output not in further:
            raise InputError(
                f"{dataset.origin}: {name} are targets of no further output; "
                + (f"name one of {', '.join(further)}" if further else "the network has one output: call them targets")
            )


def _check_kind(dataset: Dataset, targets: NDArray[Any], signature: Signature) -> None:
    """Check that the targets are integers of the task's rank, or finite numbers."""
    task, given = signature.task, _given(dataset, targets, signature)
    if task in ("regression", "detection"):
        if targets.dtype.kind not in "fiub":
            raise InputError(f"{given}; the targets of the task {task} are numbers")
        if targets.dtype.kind == "f" and not np.isfinite(targets).all():
            raise InputError(f"{given}; they hold NaN or infinite values")
        return
    rank, kinds = {"segmentation": (3, "iub"), "tokens": (2, "iu")}.get(task, (1, "iu"))
    ranked = class_masks(targets) if task == "segmentation" and targets.dtype.kind in "iub" else targets
    if ranked.ndim != rank or targets.dtype.kind not in kinds:
        raise InputError(
            f'{given}; the targets of the task {task} are {INTEGERS[task]} (another task is set in model.toml: task = "NAME")'
        )
    if task == "anomaly" and not np.isin(targets, (0, 1)).all():
        found = np.setdiff1d(targets, (0, 1)).tolist()[:10]
        raise InputError(f"{given}; they hold {found}: the task anomaly takes 0 for normal and 1 for anomalous samples")


def _check_shape(dataset: Dataset, targets: NDArray[Any], signature: Signature) -> None:
    """Check that the first output has the rank of the task, and the targets its sizes."""
    task, given = signature.task, _given(dataset, targets, signature)
    shape = signature.outputs[0].shape[1:]
    if task in ("regression", "detection") and targets[0].size != np.prod(signature.outputs[0].sized(1)):
        more = "; ground truth of another form goes into an extra array, for a metric of your own"
        raise InputError(
            f"{given}; a {task} needs a target for every value of the output{more if task == 'detection' else ''}"
        )
    if task == "classification" and len(shape) != 1:
        raise InputError(f"{given}; the first output of a classification is (N, classes), or (N, 1) for two classes")
    if task == "embedding" and len(shape) != 1:
        raise InputError(f"{given}; the first output of the task embedding is a vector a sample, (N, D)")
    if task == "segmentation" and (len(shape) != 3 or class_masks(targets).shape[1:] != shape[1:]):
        raise InputError(f"{given}; a segmentation needs masks of the output's height and width")
    if task == "tokens" and (len(shape) != 2 or targets.shape[1:] != shape[:1]):
        raise InputError(f"{given}; the task tokens needs an output (N, L, classes), and targets as long as it")
    if task == "tokens" and dataset.padding is not None and dataset.padding.shape != targets.shape:
        raise InputError(f"{given}; the padding mask has the shape {('N', *dataset.padding.shape[1:])}, not theirs")


def _check_values(dataset: Dataset, targets: NDArray[Any], signature: Signature) -> None:
    """Check that the targets are classes that the network tells apart."""
    task, given = signature.task, _given(dataset, targets, signature)
    if task not in ("classification", *CLASS_MAPS):
        return
    classes = max(2, int(signature.outputs[0].shape[class_axis(task)]))
    if task == "classification" and dataset.labels is not None and len(dataset.labels) != classes:
        raise InputError(
            f"{dataset.origin} has {len(dataset.labels)} classes ({', '.join(dataset.labels[:5])} ...) and the network "
            f"tells {classes}; list all labels in model.toml in the order of its outputs, or give the images "
            "in one folder, without classes"
        )
    values = np.unique(targets if task == "classification" else class_masks(targets))
    wrong = values[(values >= classes) | (values < -1)].tolist()
    if wrong:
        raise InputError(
            f"{given}, which tells {classes} classes; the targets hold {wrong[:10]}: they go from 0 to {classes - 1}, and -1 stands for no label"
        )
