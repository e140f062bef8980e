"""Observation: what values the activations of a float graph take on real data.

The calibration part runs through the graph twice: once for the extremes of every tensor and for the moments of what
every layer takes in, and once more, when the extremes are known, for the histograms that all calibrators work on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgekd.data import Part
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError
from edgekd.models.onnx_graph import fixed_batch, inferred_values
from edgekd.models.qdq_graph import ACTIVATIONS
from edgekd.stages.quantize.layers import Layer, find_layers

BINS = 2048
_EXACT = 2**24  # torch counts in float32
_BYTES = 256e6  # of activations at a time
_MOST_INPUTS = 4096  # of a layer whose covariance is kept
_OUTPUTS = 8_000  # of a layer, over the whole part, that its moments are taken from ...
_OUTPUTS_PER_INPUT = 16  # ... or more where it has many inputs


@dataclass(frozen=True)
class Histogram:
    """Counts of a tensor's values in equal bins between its extremes."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """Return the ends of the bins."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centers(self) -> NDArray[np.float64]:
        """Return the middle of every bin."""
        return (self.edges[:-1] + self.edges[1:]) / 2


@dataclass(frozen=True)
class Moments:
    """Mean (groups, inputs) and covariance (groups, inputs, inputs) of a layer's x; None where it has too many inputs."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64] | None


@dataclass(frozen=True)
class Observed:
    """What a part does in a graph: the histogram of every quantized tensor, and the moments of every layer, by node."""

    histograms: dict[str, Histogram]
    moments: dict[str, Moments]


def observe(model: onnx.ModelProto, part: Part, workdir: Path, threads: int) -> Observed:
    """Run a part through a float graph, twice.

    Raises:
        InputError: there are no samples, or an activation is not a number.
    """
    if not len(part):
        raise InputError("the calibration part is empty: ranges come from real samples; give more data")
    watched = Watched(model, part, workdir, threads)
    try:
        extremes, moments = first_pass(watched, find_layers(model))
        return Observed(_count(watched, extremes), moments)
    finally:
        watched.path.unlink()


class Watched:
    """A graph that gives all its float tensors but those that only go into one of `fused`, an activation function."""

    def __init__(
        self, model: onnx.ModelProto, part: Part, workdir: Path, threads: int, fused: Sequence[str] = ACTIVATIONS
    ) -> None:
        self.part = part
        self.path = workdir / "watched.onnx"
        self._batch = fixed_batch(model)
        self._inputs = [value.name for value in model.graph.input]
        made = {name for node in model.graph.node for name in node.output} | set(self._inputs)
        users: dict[str, list[str]] = {value.name: ["output"] for value in model.graph.output}
        for node in model.graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node.op_type)
        tensors = {
            value.name: value
            for value in inferred_values(model)
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            and value.name in made
            and (len(users.get(value.name, ())) != 1 or users[value.name][0] not in fused)
        }
        self.names = list(tensors)
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        given = {value.name for value in (*model.graph.output, *model.graph.input)}
        watched.graph.output.extend(value for name, value in tensors.items() if name not in given)
        onnx.save(watched, str(self.path))
        self._session = open_session("onnxruntime", self.path, threads)

    def values(self) -> Iterator[tuple[dict[str, NDArray[Any]], int]]:
        """Yield the values of the tensors, batch by batch, and the number of samples that they are of."""
        start, batch = 0, self._batch or 1
        while start < len(self.part):
            feeds = self.part.inputs(slice(start, start + batch))
            count = len(next(iter(feeds.values())))
            if self._batch and count < batch:  # the graph's batch is fixed: fill the last one up
                feeds = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in feeds.items()}
            found = {**self._session.run({name: feeds[name] for name in self._inputs}), **feeds}
            if self._batch and count < batch:
                found = {name: array[:count] if array.ndim else array for name, array in found.items()}
            yield {name: found[name] for name in self.names}, count
            start += batch
            size = sum(found[name].nbytes for name in self.names) / batch
            batch = self._batch or int(np.clip(_BYTES / max(size, 1), 1, 256))


def first_pass(watched: Watched, layers: list[Layer]) -> tuple[dict[str, tuple[float, float]], dict[str, Moments]]:
    """Return the extremes of every watched tensor, and the moments of what the layers take in, by node."""
    extremes: dict[str, tuple[float, float]] = {}
    sums: dict[str, list[Any]] = {}
    layers = [layer for layer in layers if layer.source in watched.names]
    seen = 0
    for number, (values, count) in enumerate(watched.values()):
        for name, array in values.items():
            check_numbers(name, array, watched.part.indices[seen : seen + count])
            low, high = ends_of(array)
            before = extremes.get(name, (low, high))
            extremes[name] = min(before[0], low), max(before[1], high)
        for layer in layers:
            wanted = max(_OUTPUTS, _OUTPUTS_PER_INPUT * layer.fan_in) // len(watched.part)
            x = layer.inputs(torch.from_numpy(values[layer.source]), max(1, wanted), 7 * number)
            first = x.sum(2).double()
            second = (x @ x.transpose(1, 2)).double() if layer.fan_in <= _MOST_INPUTS else None
            if layer.node not in sums:
                sums[layer.node] = [first, second, x.shape[2]]
                continue
            total = sums[layer.node]
            total[0] += first
            total[2] += x.shape[2]
            if second is not None:
                total[1] += second
        seen += count
    return extremes, {name: _moments(*total) for name, total in sums.items()}


def check_numbers(name: str, array: NDArray[Any], samples: NDArray[np.int64]) -> None:
    """Refuse NaN, naming the tensor and the sample of the data set; infinite values may be a mask's.

    Args:
        name: of the tensor.
        array: its values, (N, ...) where they have a row a sample.
        samples: positions in the data set, (N,).

    Raises:
        InputError: one is not a number.
    """
    if not np.isnan(array.max(initial=-np.inf)):
        return
    place = ""
    if array.ndim and len(array) == len(samples):
        first = int(np.argmax(np.isnan(array).reshape(len(array), -1).any(1)))
        place = f" for sample {samples[first]} of the data"
    raise InputError(
        f"quantize: {name!r} is NaN{place}, in the float network: no range can be chosen; look at that sample"
    )


def ends_of(array: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the greatest finite value: masks hold infinite ones."""
    if not array.size:
        return 0.0, 0.0
    low, high = (float(end) for end in torch.aminmax(torch.from_numpy(array)))
    if not np.isfinite([low, high]).all():
        return ends_of(array[np.isfinite(array)])
    return low, high


def _moments(first: torch.Tensor, second: torch.Tensor | None, count: int) -> Moments:
    mean = first / count
    if second is None:
        return Moments(mean.numpy(), None)
    return Moments(mean.numpy(), (second / count - mean[:, :, None] * mean[:, None, :]).numpy())


def _count(watched: Watched, extremes: dict[str, tuple[float, float]]) -> dict[str, Histogram]:
    counts = {name: np.zeros(BINS, np.int64) for name in extremes}
    for values, _ in watched.values():
        for name, ends in extremes.items():
            counts[name] += count_values(values[name], *ends)
    return {name: Histogram(low, high, counts[name]) for name, (low, high) in extremes.items()}


def count_values(array: NDArray[Any], low: float, high: float) -> NDArray[np.int64]:
    """Return how many values lie in each of the bins between two ends."""
    counts = np.zeros(BINS, np.int64)
    for piece in torch.from_numpy(array).flatten().split(_EXACT):
        counts += torch.histc(piece, BINS, low, max(high, low + 1e-9)).long().numpy()
    return counts
