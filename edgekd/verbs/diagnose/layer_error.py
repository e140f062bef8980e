"""What rounding does at a layer: how far its output is off in the whole int8 graph, and what its input looks like."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekd.data import Part
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.models.onnx_graph import fixed_batch
from edgekd.models.qdq_graph import QdqGraph, RoundedLayer, exposing

OUTLIER = 8.0  # times the median channel's largest value
_BATCH = 8


@dataclass
class LayerError:
    """Sums over the samples: of a layer's output in float and int8, and of its input in float."""

    error: float = 0.0
    wanted: float = 0.0
    given: float = 0.0
    product: float = 0.0
    clipped: int = 0
    values: int = 0
    squares: float = 0.0
    largest: NDArray[np.float64] | None = field(default=None)

    @property
    def sqnr_db(self) -> float:
        """Return the signal-to-noise ratio of the output in dB."""
        return float(10 * np.log10(max(self.wanted, 1e-30) / max(self.error, 1e-30)))

    @property
    def cosine(self) -> float:
        """Return the cosine of the angle between the output in float and in int8."""
        return float(self.product / max(np.sqrt(self.wanted * self.given), 1e-30))

    @property
    def clipped_share(self) -> float:
        """Return the share of the input's values outside of the range."""
        return self.clipped / max(self.values, 1)

    @property
    def dynamic_range(self) -> float | None:
        """Return the input's largest value by its root mean square; None where no input was seen."""
        if self.largest is None or not self.values:
            return None
        return float(self.largest.max() / max(np.sqrt(self.squares / self.values), 1e-30))

    def outlier_channels(self) -> list[int]:
        """Return the channels of the input whose largest value is far beyond that of the median channel."""
        return outliers(self.largest) if self.largest is not None else []

    def add_output(self, wanted: NDArray[Any], given: NDArray[Any]) -> None:
        """Count a batch of outputs, in float and in int8."""
        finite = np.isfinite(wanted) & np.isfinite(given)
        one, other = (np.where(finite, array, 0).astype(np.float64) for array in (wanted, given))
        self.error += float(np.square(one - other).sum())
        self.wanted += float(np.square(one).sum())
        self.given += float(np.square(other).sum())
        self.product += float((one * other).sum())

    def add_input(self, values: NDArray[Any], span: tuple[float, float], axis: int) -> None:
        """Count a batch of inputs in float, whose channels lie on an axis."""
        step = (span[1] - span[0]) / 512  # half of an 8-bit step: what rounds into the range is not clipped
        self.clipped += int(((values < span[0] - step) | (values > span[1] + step)).sum())
        self.values += values.size
        self.squares += float(np.square(values, dtype=np.float64).sum())
        others = tuple(number for number in range(values.ndim) if number != axis)
        largest = np.abs(values).max(axis=others).astype(np.float64)
        self.largest = largest if self.largest is None else np.maximum(self.largest, largest)


def outliers(largest: NDArray[Any]) -> list[int]:
    """Return the channels whose largest value is more than `OUTLIER` times the median channel's."""
    used = largest[largest > 0]
    if used.size < 4:
        return []
    return [int(number) for number in np.flatnonzero(largest > OUTLIER * np.median(used))]


def weight_outliers(layer: RoundedLayer) -> list[int]:
    """Return the output channels of a layer's weight that share one step with far smaller ones."""
    weight = layer.weight
    constant = next((one for one in layer.inputs if one.constant), None)
    if weight is None or constant is None or constant.scale.size > 1 or weight.ndim < 2:
        return []
    axis = 0 if layer.operator == "Conv" else weight.ndim - 1
    return outliers(np.abs(weight).max(axis=tuple(number for number in range(weight.ndim) if number != axis)))


def layer_errors(graph: QdqGraph, part: Part, workdir: Path, threads: int) -> dict[str, LayerError]:
    """Run a part through the float and the int8 graph side by side; return what every rounded layer does."""
    layers = graph.layers
    everything = {layer.name for layer in layers}
    floats = {name for layer in layers for name in (layer.output, *_inputs(layer))}
    wanted = _session(graph.rounding(()), floats, workdir / "float.onnx", threads)
    given = _session(graph.rounding(everything), {layer.output for layer in layers}, workdir / "int8.onnx", threads)
    found = {layer.name: LayerError() for layer in layers}
    for feeds, count in _batches(part, fixed_batch(graph.model)):
        reference, rounded = (
            {**feeds, **session.run({one.name: feeds[one.name] for one in session.inputs})}
            for session in (wanted, given)
        )
        for layer in layers:
            if reference[layer.output].dtype.kind == "f":
                found[layer.name].add_output(reference[layer.output][:count], rounded[layer.output][:count])
            activation = layer.activation
            if activation is not None and activation.tensor in reference:
                values = reference[activation.tensor]
                if values.ndim:
                    axis = 1 if layer.operator in ("Conv", "ConvTranspose") else values.ndim - 1
                    found[layer.name].add_input(values[:count], activation.span(), axis)
    return found


def _inputs(layer: RoundedLayer) -> Sequence[str]:
    return () if layer.activation is None else (layer.activation.tensor,)


def _session(model: onnx.ModelProto, tensors: set[str], path: Path, threads: int) -> Session:
    made = {name for node in model.graph.node for name in node.output}
    onnx.save(exposing(model, sorted(tensors & made)), str(path))
    return open_session("onnxruntime", path, threads)


def _batches(part: Part, fixed: int | None) -> Iterator[tuple[dict[str, NDArray[Any]], int]]:
    """Yield inputs with the number of samples that count; a graph's fixed batch is filled up."""
    for feeds in part.batches(fixed or _BATCH):
        count = len(next(iter(feeds.values())))
        if fixed is not None and count < fixed:
            feeds = {name: np.resize(array, (fixed, *array.shape[1:])) for name, array in feeds.items()}
        yield feeds, count
