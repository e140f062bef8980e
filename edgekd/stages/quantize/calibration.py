"""Calibration: what values the activations take on real data, and the range to give each of them.

Every calibrator works on the same histograms, so the calibration part is run twice (extremes, then counts) whatever
the number of calibrators that are tried.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekd.data import Part
from edgekd.device.runtimes import open_session
from edgekd.stages.quantize.settings import Calibrator, QuantizeSettings

BINS = 2048
LEVELS = 255  # steps of an 8-bit range


@dataclass
class Histogram:
    """Counts of a tensor's values in `BINS` equal bins between its extremes, and the mean of each channel (axis 1)."""

    low: float
    high: float
    counts: NDArray[np.int64]
    channel_means: NDArray[np.float64] | None = None

    @property
    def centers(self) -> NDArray[np.float64]:
        """Return the middle of every bin."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return (edges[:-1] + edges[1:]) / 2


def observe(model: onnx.ModelProto, part: Part, workdir: Path, threads: int, batch: int = 32) -> dict[str, Histogram]:
    """Run the calibration part through the float graph and return the histogram of every float tensor."""
    tensors = _float_tensors(model)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {value.name for value in watched.graph.output}
    watched.graph.output.extend(value for name, value in tensors.items() if name not in outputs)
    path = workdir / "watched.onnx"
    onnx.save(watched, str(path))
    session = open_session("onnxruntime", path, threads)
    names = [value.name for value in model.graph.input]

    def values() -> Iterable[dict[str, NDArray[Any]]]:
        for feeds in part.batches(batch):
            yield {**session.run({name: feeds[name] for name in names}), **feeds}

    low, high = dict.fromkeys(tensors, np.inf), dict.fromkeys(tensors, -np.inf)
    sums: dict[str, NDArray[np.float64]] = {}
    for found in values():
        for name in tensors:
            array = found[name]
            low[name], high[name] = min(low[name], float(array.min())), max(high[name], float(array.max()))
            if array.ndim >= 2:
                axes = tuple(axis for axis in range(array.ndim) if axis != 1)
                mean = array.mean(axes, dtype=np.float64) * len(array)
                sums[name] = sums.get(name, 0) + mean
    counts = {name: np.zeros(BINS, np.int64) for name in tensors}
    for found in values():
        for name in tensors:
            span = (low[name], high[name] if high[name] > low[name] else low[name] + 1e-9)
            counts[name] += np.histogram(found[name], BINS, span)[0]
    path.unlink()
    means = {name: total / len(part) for name, total in sums.items()}
    return {name: Histogram(low[name], high[name], counts[name], means.get(name)) for name in tensors}


def _float_tensors(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    weights = {tensor.name for tensor in model.graph.initializer}
    made = {name for node in model.graph.node for name in node.output} | {value.name for value in model.graph.input}
    return {
        value.name: value
        for value in values
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and value.name in made - weights
    }


def choose_range(histogram: Histogram, calibrator: Calibrator, settings: QuantizeSettings) -> tuple[float, float]:
    """Return the range (low, high) that a calibrator gives a tensor; it always holds 0."""
    if histogram.high <= histogram.low:
        chosen = (histogram.low, histogram.high)
    else:
        methods: dict[str, Callable[[], tuple[float, float]]] = {
            "min-max": lambda: (histogram.low, histogram.high),
            "percentile": lambda: _percentile(histogram, settings.percentile),
            "mse": lambda: _least_error(histogram),
            "entropy": lambda: _least_divergence(histogram),
        }
        chosen = methods[calibrator]()
    return min(chosen[0], 0.0), max(chosen[1], 0.0)


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Cut (100 - percentile) % of the values off, half at each end that is not zero."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (100 - percentile) / 100
    if histogram.low < 0 < histogram.high:
        tail /= 2
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    low = edges[int(np.searchsorted(share, tail))] if histogram.low < 0 else histogram.low
    high = edges[min(int(np.searchsorted(share, 1 - tail)) + 1, BINS)] if histogram.high > 0 else histogram.high
    return float(low), float(high)


def _candidates(histogram: Histogram, smallest: float) -> list[tuple[float, float]]:
    """Return ranges from the extremes inwards, both ends shrinking by one factor."""
    return [(histogram.low * factor, histogram.high * factor) for factor in np.geomspace(1.0, smallest, 60)]


def _least_error(histogram: Histogram) -> tuple[float, float]:
    """Return the range with the least mean squared error of the quantized values, clipping included."""
    centers, counts = histogram.centers, histogram.counts

    def error(span: tuple[float, float]) -> float:
        low, high = min(span[0], 0.0), max(span[1], 0.0)
        step = (high - low) / LEVELS
        inside = (centers >= low) & (centers <= high)
        nearest = np.clip(centers, low, high)
        # Values are spread over a bin wider or narrower than a step; inside, rounding adds step² / 12.
        return float((counts * ((centers - nearest) ** 2 + inside * step**2 / 12)).sum())

    return min(_candidates(histogram, 0.1), key=error)


def _least_divergence(histogram: Histogram) -> tuple[float, float]:
    """Return the range whose quantized distribution has the least Kullback-Leibler divergence from the clipped one.

    Source: Migacz, 8-bit Inference with TensorRT, 2017.
    """
    centers, counts = histogram.centers, histogram.counts.astype(np.float64)

    def divergence(span: tuple[float, float]) -> float:
        low, high = min(span[0], 0.0), max(span[1], 0.0)
        inside = (centers >= low) & (centers <= high)
        reference = counts[inside].copy()
        if reference.sum() == 0:
            return np.inf
        below, above = counts[centers < low].sum(), counts[centers > high].sum()
        level = np.minimum(((centers[inside] - low) / (high - low) * (LEVELS + 1)).astype(int), LEVELS)
        occupied = counts[inside] > 0
        members = np.bincount(level, occupied, LEVELS + 1)
        spread = np.bincount(level, counts[inside], LEVELS + 1) / np.maximum(members, 1)
        quantized = np.where(occupied, spread[level], 0.0)
        reference[0] += below
        reference[-1] += above
        p, q = reference / reference.sum(), quantized / max(quantized.sum(), 1e-12)
        used = p > 0
        return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-9))).sum())

    # A level holds at least two bins, or a small range would seem to lose nothing.
    return min(_candidates(histogram, 2 * (LEVELS + 1) / BINS), key=divergence)
