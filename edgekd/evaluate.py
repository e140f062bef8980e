"""Evaluating a written file: what is judged is what goes to the device."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.data import Part
from edgekd.device.batches import fixed_batch
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.errors import InputError
from edgekd.metrics import METRICS, Metric

Outputs = dict[str, NDArray[Any]]


def run_onnx(path: Path, part: Part, threads: int, batch: int = 100) -> Outputs:
    """Run a whole part through an ONNX file and return its outputs."""
    return run_session(open_session("onnxruntime", path, threads), part, batch)


def run_session(session: Session, part: Part, batch: int = 100) -> Outputs:
    """Run a whole part through an opened model and return its outputs."""
    fixed = fixed_batch(session)
    size = fixed or batch
    collected: dict[str, list[NDArray[Any]]] = {}
    for feeds in part.batches(size):
        count = len(next(iter(feeds.values())))
        if fixed is not None and count < fixed:  # fill the last batch up
            feeds = {name: np.resize(array, (fixed, *array.shape[1:])) for name, array in feeds.items()}
        for name, array in session.run(feeds).items():
            collected.setdefault(name, []).append(array[:count])
    return {name: np.concatenate(arrays) for name, arrays in collected.items()}


def one_class(part: Part) -> bool:
    """Return whether a part has samples of one class only; the area under the curve has no value there."""
    return part.targets is not None and len(np.unique(part.targets)) < 2


def deciding_metric(metric: Metric, part: Part) -> Metric:
    """Return the metric that decides on a part: the signal-to-noise ratio where the area under the curve has no value."""
    return METRICS["sqnr"] if metric.name == "auc" and one_class(part) else metric


def judge_outputs(outputs: Outputs, reference: Outputs | None, part: Part, metric: Metric) -> float:
    """Return the metric of a part's outputs (the first one), against its targets or, for fidelity, the reference.

    The score of a reconstruction (task anomaly) is its mean squared error.

    Raises:
        InputError: the metric cannot work on these outputs and targets, or gives no number; its own message is shown.
    """
    first = next(iter(outputs.values()))
    if metric.fidelity:
        if reference is None:
            raise InputError(f"{metric.name} compares with the uncompressed network, which is not at hand")
        wanted = next(iter(reference.values()))
    else:
        assert part.targets is not None
        wanted = part.targets
        if part.signature.task == "anomaly":
            given = next(iter(part.inputs().values()))
            if first.shape == given.shape:
                first = ((first - given) ** 2).reshape(len(first), -1).mean(1)
    try:
        value = float(metric.function(first, wanted))
    except InputError:
        raise
    except Exception as error:  # a user's metric may raise anything
        raise InputError(
            f"the metric {metric.name} fails on outputs {first.shape} and targets {wanted.shape}: {error}"
        ) from error
    if not math.isfinite(value):
        what = "the outputs hold NaN or infinite values" if not np.isfinite(first).all() else "the outputs are finite"
        raise InputError(f"the metric {metric.name} gives {value} on {len(first):,} samples; {what}")
    return value
