"""Evaluating a written file: what is judged is what goes to the device."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgekd.data import Part
from edgekd.data.dataset import CLASS_MAPS
from edgekd.device.batches import fixed_batch
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.errors import InputError
from edgekd.metrics import METRICS, Metric, decisions
from edgekd.models.network import run_network

Outputs = dict[str, NDArray[Any]]


_BATCH = 100
_BATCHES = {"openvino": 1}  # 2026.4.1 computes int8 transformers wrong in batches, the worse the larger they are


def run_onnx(path: Path, part: Part, threads: int, runtime: str = "onnxruntime") -> Outputs:
    """Run a whole part through an ONNX file in a runtime and return its outputs."""
    return run_session(open_session(runtime, path, threads), part)


def run_session(session: Session, part: Part) -> Outputs:
    """Run a whole part through an opened model and return its outputs."""
    fixed = fixed_batch(session)
    size = fixed or _BATCHES.get(session.describe()["runtime"], _BATCH)
    collected: dict[str, list[NDArray[Any]]] = {}
    for feeds in part.batches(size):
        count = len(next(iter(feeds.values())))
        if fixed is not None and count < fixed:  # fill the last batch up
            feeds = {name: np.resize(array, (fixed, *array.shape[1:])) for name, array in feeds.items()}
        for name, array in session.run(feeds).items():
            collected.setdefault(name, []).append(array[:count])
    return {name: np.concatenate(arrays) for name, arrays in collected.items()}


@torch.no_grad()
def run_module(module: nn.Module, part: Part, batch: int = _BATCH) -> Outputs:
    """Run a whole part through a torch network in eval mode, on the CPU, and return its outputs."""
    collected: dict[str, list[NDArray[Any]]] = {}
    for feeds in part.batches(batch):
        answers = run_network(module, {name: torch.from_numpy(array) for name, array in feeds.items()})
        for name, tensor in answers.items():
            collected.setdefault(name, []).append(tensor.numpy())
    return {name: np.concatenate(arrays) for name, arrays in collected.items()}


def one_class(part: Part) -> bool:
    """Return whether a part has samples of one class only; the area under the curve has no value there."""
    return part.targets is not None and len(np.unique(part.targets)) < 2


def deciding_metric(metric: Metric, part: Part) -> Metric:
    """Return the metric that decides on a part: the signal-to-noise ratio where the area under the curve has no value."""
    return METRICS["sqnr"] if metric.name == "auc" and one_class(part) else metric


def judge_outputs(outputs: Outputs, reference: Outputs | None, part: Part, metric: Metric) -> float:
    """Return the metric of a part's outputs, against its targets or, for fidelity, the reference.

    The first output is judged. Of the task detection, the fidelity is the mean over all outputs, and a metric of one's own
    gets two dictionaries: all outputs, and all further arrays of the part with its `targets`. Positions that a padding mask
    leaves out do not count. The score of a reconstruction (task anomaly) is its mean squared error.

    Raises:
        InputError: the metric cannot work on these outputs and targets, or gives no number; its own message is shown.
    """
    task, targets = part.signature.task, part.targets
    if metric.fidelity:
        if reference is None:
            raise InputError(f"{metric.name} compares with the uncompressed network, which is not at hand")
        if task != "detection":
            return _value(metric, *_counted(_first(outputs), _first(reference), part))
        if outputs.keys() != reference.keys():
            raise InputError(f"the outputs are {', '.join(outputs)}, those of the reference {', '.join(reference)}")
        return float(np.mean([_value(metric, outputs[name], wanted) for name, wanted in reference.items()]))
    if task == "detection" and metric.own:
        return _value(metric, outputs, part.extras() if targets is None else {**part.extras(), "targets": targets})
    assert targets is not None
    first = _first(outputs)
    if task == "anomaly":
        given = next(iter(part.inputs().values()))
        if first.shape == given.shape:
            first = ((first - given) ** 2).reshape(len(first), -1).mean(1)
    return _value(metric, first, targets) if metric.own else _value(metric, *_counted(first, targets, part))


def right_decisions(outputs: Outputs, reference: Outputs, part: Part, metric: Metric) -> NDArray[np.bool_] | None:
    """Return for each sample whether the decision is right, (N,): what accuracy and agreement count; None for any other metric."""
    if metric.name not in ("accuracy", "agreement"):
        return None
    found = decisions(_first(outputs))
    wanted = decisions(_first(reference)) if metric.fidelity else part.targets
    return None if wanted is None or found.ndim != 1 or found.shape != wanted.shape else found == wanted


def _first(outputs: Outputs) -> NDArray[Any]:
    return next(iter(outputs.values()))


def _counted(outputs: NDArray[Any], wanted: NDArray[Any], part: Part) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return outputs and what they are compared with at the positions that count, in one row: (positions,) or (positions, C).

    Where a padding mask speaks of no positions of the output, nothing changes. Tokens (N, L, C) always come in one row, so
    that their classes lie on the second axis.

    Raises:
        InputError: no position counts.
    """
    task = part.signature.task
    if task not in ("regression", *CLASS_MAPS) or (part.dataset.padding is None and task != "tokens"):
        return outputs, wanted
    mask = part.valid()
    if mask is None or not _has_positions(outputs, mask):
        if task != "tokens" or outputs.ndim != 3:
            return outputs, wanted
        mask = np.ones(outputs.shape[:2], bool)
    if not mask.any():
        raise InputError(f"{part.dataset.origin}: no position counts: all are padding or marked to be ignored")
    if task == "regression" and wanted.shape != outputs.shape:
        wanted = wanted.reshape(outputs.shape)
    return _rows(outputs, mask), _rows(wanted, mask)


def _has_positions(outputs: NDArray[Any], mask: NDArray[np.bool_]) -> bool:
    """Return whether outputs (N, L), (N, L, C), (N, H, W) or (N, C, H, W) have the positions of a mask."""
    return mask.ndim > 1 and (outputs.shape[: mask.ndim] == mask.shape or _channels_second(outputs, mask))


def _channels_second(array: NDArray[Any], mask: NDArray[np.bool_]) -> bool:
    return array.ndim == 4 and (len(array), *array.shape[2:]) == mask.shape


def _rows(array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the values at a mask's positions: (positions,), or (positions, C)."""
    return (np.moveaxis(array, 1, -1) if _channels_second(array, mask) else array)[mask]


def _value(metric: Metric, outputs: Any, wanted: Any) -> float:
    def shown(value: Any) -> Any:
        return {name: array.shape for name, array in value.items()} if isinstance(value, dict) else value.shape

    try:
        value = float(metric.function(outputs, wanted))
    except InputError:
        raise
    except Exception as error:  # a user's metric may raise anything
        raise InputError(
            f"the metric {metric.name} fails on outputs {shown(outputs)} and targets {shown(wanted)}: {error}"
        ) from error
    if not math.isfinite(value):
        arrays = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
        finite = all(np.isfinite(array).all() for array in arrays)
        what = "the outputs are finite" if finite else "the outputs hold NaN or infinite values"
        raise InputError(f"the metric {metric.name} gives {value} on {len(arrays[0]):,} samples; {what}")
    return value
