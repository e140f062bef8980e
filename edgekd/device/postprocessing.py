"""From what a network gives to what a person asked for: the best labels, or the class of every pixel or token."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import Array
from .errors import CheckFailed

CLASS_AXIS = {"classification": 1, "segmentation": 1, "tokens": -1}  # other tasks have no classes
_BEST = 5


def decide(task: str, labels: Sequence[str] | None, output: Array) -> Any:
    """Return what is decided from a model's first output: the best labels, the class indices, or the output itself."""
    best = best_labels(task, labels, output)
    if best is not None:
        return best
    axis = CLASS_AXIS.get(task)
    return output if axis is None or output.ndim < 2 else output.argmax(axis=axis)


def best_labels(task: str, labels: Sequence[str] | None, scores: Array) -> list[list[dict[str, Any]]] | None:
    """Return the highest scores of each sample with their labels, as the model gives them; None without labels.

    Raises:
        CheckFailed: There are not as many scores as labels.
    """
    if task != "classification" or labels is None or scores.ndim != 2:
        return None
    if scores.shape[1] != len(labels):
        raise CheckFailed(f"the model gives {scores.shape[1]} scores, its manifest has {len(labels)} labels")
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :_BEST]
    return [
        [{"label": labels[index], "index": int(index), "score": float(row[index])} for index in best]
        for row, best in zip(scores, order, strict=True)
    ]
