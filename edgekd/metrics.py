"""Metrics: how good the outputs of a network are, each a pure function of outputs and targets."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.code import code_digest, import_object
from edgekd.data.dataset import class_masks
from edgekd.errors import InputError
from edgekd.models.signature import Task

Array = NDArray[Any]

_CHUNK = 1024  # rows that are compared with all others at a time
_Z = 1.959964  # 95 % of a normal distribution lie within this many standard deviations


@dataclass(frozen=True)
class Metric:
    """A function (outputs, targets) -> number, with its unit and direction.

    `fidelity` metrics take the outputs of the uncompressed network as targets, so they need no labels. A `share` is a
    share of samples in percent, so its spread is known. Outputs have their classes on the second axis, (N, C, ...); those of
    `token-accuracy` have them last.
    """

    name: str
    unit: str
    higher_is_better: bool
    function: Callable[[Array, Array], float]
    fidelity: bool = False
    share: bool = False
    version: str = ""  # hash of a user's own code

    @property
    def own(self) -> bool:
        """Return whether it is a user's own function."""
        return ":" in self.name

    @property
    def identity(self) -> str:
        """Return what a stored score depends on."""
        return f"{self.name} {self.version}".strip()

    def drop(self, before: float, after: float) -> float:
        """Return how much worse `after` is, in the metric's unit; negative when it is better."""
        return before - after if self.higher_is_better else after - before

    def interval(self, value: float, samples: int) -> tuple[float, float] | tuple[None, None]:
        """Return the 95 % interval of a share of samples (Wilson's), in percent; of another metric, none is known."""
        if not self.share:
            return None, None
        share = value / 100
        centre = share + _Z**2 / (2 * samples)
        spread = _Z * math.sqrt(share * (1 - share) / samples + _Z**2 / (4 * samples**2))
        scale = 100 / (1 + _Z**2 / samples)
        return scale * (centre - spread), scale * (centre + spread)


def drop_interval(before: Array, after: Array) -> tuple[float, float]:
    """Return the 95 % interval of how many percent fewer of the same samples are right, from matched pairs.

    Half a sample is added to each of the four cells of the table of pairs, so that the interval holds what it says also where
    no decision changed. Source: Agresti and Min, Simple improved confidence intervals for comparing matched proportions, 2005.

    Args:
        before: whether each sample was right, (N,).
        after: whether it is now, (N,).
    """
    samples = len(before) + 2
    lost, gained = (before & ~after).sum() + 0.5, (after & ~before).sum() + 0.5
    difference = lost - gained
    spread = _Z * math.sqrt(lost + gained - difference**2 / samples)
    return 100 * (difference - spread) / samples, 100 * (difference + spread) / samples


def decisions(outputs: Array) -> Array:
    """Return the class that the logits (N, C, ...) decide for; one logit (N, 1, ...) decides for 1 above 0, else for 0."""
    return outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(np.intp)


def accuracy(outputs: Array, targets: Array) -> float:
    """Share of samples (N, C), or (N, 1) for two classes, whose decision is the target (N,), in percent."""
    return float(100 * (decisions(outputs) == targets).mean())


def mean_squared_error(outputs: Array, targets: Array) -> float:
    """Mean squared difference of outputs and targets of one shape."""
    return float(np.mean((outputs - targets.reshape(outputs.shape)) ** 2))


def mean_absolute_error(outputs: Array, targets: Array) -> float:
    """Mean absolute difference of outputs and targets of one shape."""
    return float(np.abs(outputs - targets.reshape(outputs.shape)).mean())


def mean_iou(outputs: Array, targets: Array) -> float:
    """Intersection over union of masks (N, H, W), averaged over the classes that occur, in percent.

    `outputs` are logits (N, C, H, W), or (N, 1, H, W) for one class against background. Masks may have a channel axis of
    one. Negative targets, and 255 in masks of bytes, are ignored.

    Raises:
        InputError: outputs and masks differ in shape, or nothing is left to compare.
    """
    predicted, targets = decisions(outputs), class_masks(targets)
    if predicted.shape != targets.shape:
        raise InputError(f"the masks have the shape {targets.shape}, the outputs decide {predicted.shape}")
    valid = targets >= 0
    if not valid.any():
        raise InputError("every pixel of the masks is marked to be ignored")
    scores = []
    for label in np.unique(targets[valid]):
        wanted, found = (targets == label) & valid, (predicted == label) & valid
        scores.append((wanted & found).sum() / (wanted | found).sum())
    return float(100 * np.mean(scores))


def area_under_curve(outputs: Array, targets: Array) -> float:
    """Area under the ROC curve of anomaly scores (N,) or (N, 1) against targets 0 and 1, ties counted half, in percent.

    Equals the probability that an anomalous sample scores higher than a normal one (Mann-Whitney U).
    """
    scores, positive = outputs.reshape(len(targets), -1).mean(1), targets.astype(bool)
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]
    positives, negatives = positive.sum(), (~positive).sum()
    if not positives or not negatives:
        raise InputError("the area under the curve needs normal and anomalous samples (targets 0 and 1)")
    return float(100 * (ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def token_accuracy(outputs: Array, targets: Array) -> float:
    """Share of positions whose decision is the target, in percent; positions with a negative target do not count.

    Args:
        outputs: logits, classes last: (N, L, C), or (N, L, 1) for two classes.
        targets: class indices (N, L).

    Raises:
        InputError: outputs and targets differ in shape, or no position counts.
    """
    if outputs.shape[:-1] != targets.shape:
        raise InputError(f"the targets have the shape {targets.shape}, the outputs decide {outputs.shape[:-1]}")
    counted = targets >= 0
    if not counted.any():
        raise InputError("every position of the targets is marked to be ignored")
    return accuracy(outputs[counted], targets[counted])


def recall(outputs: Array, targets: Array) -> float:
    """Recall at 1: share of embeddings (N, D) whose nearest other one has the same target (N,), in percent.

    Nearest by the cosine; each sample is looked up among all the others (leave one out). A sample whose target no other
    has counts as missed.

    Raises:
        InputError: no two samples have the same target.
    """
    if len(np.unique(targets)) == len(targets):
        raise InputError("recall needs two samples of the same target at least")
    unit = _unit_rows(outputs)
    hits = 0
    for start in range(0, len(unit), _CHUNK):
        similar = unit[start : start + _CHUNK] @ unit.T
        rows = np.arange(len(similar))
        similar[rows, start + rows] = -np.inf
        hits += int((targets[similar.argmax(1)] == targets[start + rows]).sum())
    return 100 * hits / len(unit)


def cosine_similarity(outputs: Array, reference: Array) -> float:
    """Mean cosine of the outputs (N, ...) with the uncompressed network's, sample by sample, in percent.

    A row of zeros is like another one and unlike all others.
    """
    one, other = _unit_rows(outputs), _unit_rows(reference)
    both_zero = ~one.any(1) & ~other.any(1)
    return float(100 * np.where(both_zero, 1.0, (one * other).sum(1)).mean())


def _unit_rows(array: Array) -> Array:
    """Return the samples as rows of length 1, in float64; rows of zeros stay."""
    rows = array.reshape(len(array), -1).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(lengths > 0, lengths, 1.0)
    return unit


def agreement(outputs: Array, reference: Array) -> float:
    """Share of decisions that equal the uncompressed network's, in percent."""
    return float(100 * (decisions(outputs) == decisions(reference)).mean())


def signal_to_noise(outputs: Array, reference: Array) -> float:
    """10 log10(sum reference² / sum (reference - outputs)²) in dB; capped at 200 for equal outputs."""
    noise = np.sum((reference.astype(np.float64) - outputs) ** 2)
    signal = np.sum(reference.astype(np.float64) ** 2)
    return (
        float(min(200.0, 10 * np.log10(signal / noise))) if noise > 0 and signal > 0 else 200.0 if not noise else -200.0
    )


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "%", True, accuracy, share=True),
        Metric("mse", "", False, mean_squared_error),
        Metric("mae", "", False, mean_absolute_error),
        Metric("miou", "%", True, mean_iou),
        Metric("auc", "%", True, area_under_curve),
        Metric("recall", "%", True, recall, share=True),
        Metric("token-accuracy", "%", True, token_accuracy),
        Metric("agreement", "%", True, agreement, fidelity=True, share=True),
        Metric("sqnr", "dB", True, signal_to_noise, fidelity=True),
        Metric("cosine", "%", True, cosine_similarity, fidelity=True),
    )
}
BY_TASK: dict[Task, str] = {
    "classification": "accuracy",
    "regression": "mse",
    "segmentation": "miou",
    "anomaly": "auc",
    "embedding": "recall",
    "tokens": "token-accuracy",
    "detection": "sqnr",  # what a detection is worth, a metric of one's own says
}
FIDELITY: dict[Task, str] = {"classification": "agreement", "tokens": "agreement", "embedding": "cosine"}  # else sqnr


def fidelity_of(task: Task) -> str:
    """Return the metric that compares with the uncompressed network where there are no labels."""
    return FIDELITY.get(task, "sqnr")


def choose_metric(name: str | None, task: Task, *, labelled: bool) -> Metric:
    """Return the metric of that name, `package.module:function` (higher is better), or the task's own.

    Without labels the task's own is a fidelity: agreement where there are classes, the cosine of embeddings, else the
    signal-to-noise ratio. A function of one's own needs labels but for detection, where it gets all arrays of the data.

    Raises:
        InputError: no such metric, it is no function, or it needs labels that the data lack.
    """
    if name is None:
        name = BY_TASK[task] if labelled else fidelity_of(task)
    if ":" in name:
        function = import_object(name)
        if not callable(function):
            raise InputError(f"the metric {name!r} is no function but {type(function).__name__}")
        if not labelled and task != "detection":
            raise InputError(
                f"the metric {name!r} is called with targets and the data have none; use {fidelity_of(task)}"
            )
        return Metric(name, "", True, function, version=code_digest(function))
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}; one of {', '.join(METRICS)}, or package.module:function")
    if not labelled and not METRICS[name].fidelity:
        raise InputError(f"the metric {name!r} needs labels and the data have none; use {fidelity_of(task)}")
    return METRICS[name]
