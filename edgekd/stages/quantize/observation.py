"""Observation: what values the activations of a float graph take on real data.

The calibration part runs through the graph twice: once for what each channel does, and once more, when the ends are
known, for the histograms that every calibrator works on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgekd.data import Part
from edgekd.device.runtimes import open_session

BINS = 2048
_EXACT = 2**24  # torch counts in float32
_BYTES = 256e6  # of activations at a time


@dataclass(frozen=True)
class ChannelStatistics:
    """Of each channel (axis 1; one channel where there is none): extremes, mean and mean square."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    mean_square: NDArray[np.float64]

    @property
    def largest(self) -> NDArray[np.float64]:
        """Return the largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def span(self) -> float:
        """Return the distance between the ends of the range of all channels, which holds 0."""
        return float(max(self.high.max(), 0.0) - min(self.low.min(), 0.0))

    def scaled(self, factors: NDArray[np.float64]) -> "ChannelStatistics":
        """Return the statistics after multiplying each channel by a positive factor."""
        return ChannelStatistics(
            self.low * factors, self.high * factors, self.mean * factors, self.mean_square * factors**2
        )


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


class Observer:
    """Runs a calibration part through a graph whose float tensors it watches."""

    def __init__(self, part: Part, workdir: Path, threads: int) -> None:
        self._part = part
        self._workdir = workdir
        self._threads = threads

    def channels(self, model: onnx.ModelProto) -> dict[str, ChannelStatistics]:
        """Return the statistics of every channel of every float tensor that is quantized."""
        found: dict[str, list[torch.Tensor]] = {}
        counts: dict[str, int] = {}
        for values in self._values(model):
            for name, array in values.items():
                flat = _by_channel(array)
                lowest, highest = torch.aminmax(flat, dim=2)
                sums = flat.sum(2).double().sum(0)
                squares = torch.linalg.vector_norm(flat, dim=2).double().square().sum(0)
                one = [lowest.amin(0), highest.amax(0), sums, squares]
                if name in found:
                    before = found[name]
                    one = [
                        torch.minimum(before[0], one[0]), torch.maximum(before[1], one[1]), before[2] + sums, before[3] + squares
                    ]  # fmt: skip
                found[name] = one
                counts[name] = counts.get(name, 0) + flat.shape[0] * flat.shape[2]
        return {
            name: ChannelStatistics(
                low.double().numpy(),
                high.double().numpy(),
                (total / counts[name]).numpy(),
                (squares / counts[name]).numpy(),
            )
            for name, (low, high, total, squares) in found.items()
        }

    def histograms(self, model: onnx.ModelProto, statistics: dict[str, ChannelStatistics]) -> dict[str, Histogram]:
        """Return the histogram of every tensor of which the statistics are given."""
        ends = {name: (float(one.low.min()), float(one.high.max())) for name, one in statistics.items()}
        counts = {name: np.zeros(BINS, np.int64) for name in ends}
        for values in self._values(model):
            for name, (low, high) in ends.items():
                for piece in torch.from_numpy(values[name]).flatten().split(_EXACT):
                    counts[name] += torch.histc(piece, BINS, low, max(high, low + 1e-9)).long().numpy()
        return {name: Histogram(low, high, counts[name]) for name, (low, high) in ends.items()}

    def _values(self, model: onnx.ModelProto) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the values of the quantized tensors, batch by batch."""
        tensors = watched_tensors(model)
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        outputs = {value.name for value in watched.graph.output}
        inputs = [value.name for value in model.graph.input]
        watched.graph.output.extend(
            value for name, value in tensors.items() if name not in outputs and name not in inputs
        )
        path = self._workdir / "watched.onnx"
        onnx.save(watched, str(path))
        session = open_session("onnxruntime", path, self._threads)
        try:
            batch = 1
            start = 0
            while start < len(self._part):
                feeds = self._part.inputs(slice(start, start + batch))
                values = {**session.run({name: feeds[name] for name in inputs}), **feeds}
                yield {name: values[name] for name in tensors}
                start += batch
                size = sum(values[name].nbytes for name in tensors) / batch
                batch = int(np.clip(_BYTES / max(size, 1), 1, 256))
        finally:
            path.unlink()


def watched_tensors(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Return the float tensors but those that go into an activation function only, which is quantized with it."""
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    weights = {tensor.name for tensor in model.graph.initializer}
    made = {name for node in model.graph.node for name in node.output} | {value.name for value in model.graph.input}
    users: dict[str, set[str]] = {value.name: {"output"} for value in model.graph.output}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, set()).add(node.op_type)
    hidden = {name for name, kinds in users.items() if kinds <= {"Relu", "Clip"}}
    return {
        value.name: value
        for value in values
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name in made - weights - hidden
    }


def _by_channel(array: NDArray[Any]) -> torch.Tensor:
    """Return values as (samples, channels, the rest)."""
    tensor = torch.from_numpy(array)
    return tensor.reshape(len(tensor), tensor.shape[1], -1) if tensor.ndim > 1 else tensor.reshape(-1, 1, 1)
