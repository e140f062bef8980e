"""Quantization that is trained afterwards: a fake-quantized graph, with ranges from the calibration part."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from edgekd.context import Context
from edgekd.data import Part
from edgekd.errors import InputError, StageError
from edgekd.evaluate import deciding_metric, run_module
from edgekd.models.fake_quantization import (
    Simulation,
    prepare_graph,
    rounded_weights,
    rounders,
    set_range,
    set_weight_ranges,
    unknown_names,
    zero_ratios,
)
from edgekd.models.signature import Signature
from edgekd.models.weight_rounding import Weights, zero_ratio_alarm
from edgekd.stages.quantize.calibration import Range, choose_range
from edgekd.stages.quantize.choice import Score, best, in_words, score
from edgekd.stages.quantize.observation import Histogram, check_numbers, count_values, ends_of
from edgekd.stages.quantize.settings import Calibrator, QuantizeSettings
from edgekd.state import PreparedForm, TorchForm
from edgekd.target import QuantizationScheme

_BATCH = 64


def simulation_of(settings: QuantizeSettings, scheme: QuantizationScheme) -> Simulation:
    """Return what settings and a target's scheme ask to simulate.

    Raises:
        InputError: the scheme has activations, or weights, that cannot be trained.
    """
    weights: Weights = settings.weights or scheme.weight_dtype
    activations = settings.rounded_activations
    if activations == "int8" and scheme.activation_dtype == "int16":
        raise InputError(
            'int16 activations cannot be trained, those of 8 bits can: set activations = "float", or put distill before quantize'
        )
    if weights == "int8":
        scheme = scheme.model_copy(update={"weight_dtype": "int8"})
    simulation = Simulation(
        scheme=scheme,
        weights=weights,
        activations=activations,
        block=settings.group,
        scales=settings.scales or "absmax",
        keep_float=settings.keep_float,
        least_channels=settings.least_channels,
        calibrators=settings.calibrators if activations == "int8" else settings.calibrators[:1],
        percentile=settings.percentile,
    )
    if activations == "int8" and not simulation.plain and not (scheme.per_channel and scheme.weight_symmetric):
        raise InputError(
            f"this target wants one scale a tensor, or zero points, for weights, and {weights} weights with "
            f'{simulation.scales} scales have one a channel and none; set activations = "float"'
        )
    return simulation


def described(simulation: Simulation, samples: int) -> str:
    """Return what is simulated, in words."""
    if simulation.block:
        groups = f"in groups of {simulation.block}"
    else:
        groups = "per-channel" if simulation.scheme.per_channel or not simulation.plain else "per-tensor"
    scales = ", learned scales" if simulation.scales == "learned" else ""
    weights = f"simulated {simulation.weights} weights, {groups}{scales}"
    if simulation.activations == "float":
        return f"{weights}, activations in float; rounded at export"
    return (
        f"{weights}, {simulation.scheme.activation_dtype} activations, {samples} calibration samples, "
        f"{len(simulation.calibrators)} calibrators; rounded at export"
    )


def check_names(simulation: Simulation, module: nn.Module) -> None:
    """Refuse a name in `keep_float` that is neither a module's nor an operator's.

    Raises:
        InputError: names it.
    """
    if wrong := unknown_names(module, simulation.keep_float):
        raise InputError(f"quantize.keep_float: no module or operator {', '.join(map(repr, wrong))} (`edgekd inspect`)")


def prepare(
    form: TorchForm, signature: Signature, simulation: Simulation, context: Context
) -> tuple[PreparedForm, dict[str, Any]]:
    """Return a network as a fake-quantized graph, and notes. Its ranges and batch statistics hold unless it is set adapting.

    Every calibrator of the simulation chooses ranges for the activations from the calibration part; the validation part
    picks, as in static quantization. The ranges of weights are their extremes, a channel or a tensor each.

    Raises:
        InputError: it has nothing to round, or an activation is not a number.
        StageError: torch cannot trace the network with a free batch size, or its weights are not finite.
    """
    infinite = [name for name, tensor in form.module.named_parameters() if not torch.isfinite(tensor).all()]
    if infinite:
        raise StageError(f"{infinite[0]} is not finite, so it has no range to round to; train the network anew")
    graph = prepare_graph(form.module, signature, simulation)
    if not rounded_weights(graph):
        raise InputError(
            f"nothing is rounded: no layer has {simulation.weights} weights here"
            + ("; ternary are those of linear layers alone" if simulation.weights == "ternary" else "")
            + "; leave quantize out, or see what keep_float and least_channels leave"
        )
    part = context.parts.validation
    metric = deciding_metric(context.metric, part)
    settings = QuantizeSettings(calibrators=simulation.calibrators, percentile=simulation.percentile)  # type: ignore[arg-type]
    with context.progress("quantize", len(settings.calibrators) + 1) as advance:
        with _floating(graph):
            reference = run_module(graph, part)
            histograms = _observe(graph, context.parts.calibration)
        advance(1)
        scores: dict[Calibrator, Score] = {}
        for calibrator in settings.calibrators:
            _set_ranges(graph, histograms, calibrator, settings)
            scores[calibrator] = score(run_module(graph, part), reference, part, metric)
            said = calibrator if histograms else f"{simulation.weights} weights"
            context.log(f"quantize: {said}: {in_words(scores[calibrator], metric)}")
            advance(1)
    chosen = best(scores, metric)
    _set_ranges(graph, histograms, chosen, settings)
    notes: dict[str, Any] = {
        "simulated": True,
        "calibrator": chosen,
        "validation": {name: [round(value, 4) for value in pair] for name, pair in scores.items()},
        "rounded": {"weights": len(rounders(graph)) - len(histograms), "activations": len(histograms)},
        "kept_float": dict.fromkeys(simulation.keep_float, "keep_float"),
        "calibration_samples": len(context.parts.calibration),
    }
    if ratios := zero_ratios(graph):
        notes["zero_ratio"] = {name: round(ratio, 4) for name, ratio in ratios.items()}
        if said := zero_ratio_alarm(ratios):
            context.log(f"quantize: {said}")
    return PreparedForm(form.base, graph, simulation, form.edits), notes


@contextmanager
def _floating(graph: fx.GraphModule) -> Iterator[None]:
    """Let the rounders of a graph pass everything on as it is."""
    for rounder in rounders(graph).values():
        rounder.disable_fake_quant()
    try:
        yield
    finally:
        for rounder in rounders(graph).values():
            rounder.enable_fake_quant()


@torch.no_grad()
def _observe(graph: fx.GraphModule, part: Part) -> dict[str, Histogram]:
    """Run a part through a graph twice; return the histogram of every activation, by the name of its rounder."""
    extremes: dict[str, Range] = {}
    counts: dict[str, NDArray[np.int64]] = {}

    def widen(name: str, values: NDArray[Any]) -> None:
        low, high = ends_of(values)
        before = extremes.get(name, (low, high))
        extremes[name] = min(before[0], low), max(before[1], high)

    def count(name: str, values: NDArray[Any]) -> None:
        counts[name] = counts.get(name, 0) + count_values(values, *extremes[name])

    for look in (widen, count):
        _watch(graph, part, look)
    return {name: Histogram(*extremes[name], counts[name]) for name in counts}


def _watch(graph: fx.GraphModule, part: Part, look: Callable[[str, NDArray[Any]], None]) -> None:
    """Run a part through a graph and show all that its activations' rounders get."""
    from edgekd.models.annotation import modules_of

    weights = rounded_weights(graph)
    samples = part.indices

    readers = {str(node.target): modules_of(next(iter(node.users))) for node in graph.graph.nodes if node.users}

    def checked(name: str, values: NDArray[Any]) -> None:
        check_numbers(f"input of {(readers[name] or [name])[-1]}", values, samples)
        look(name, values)

    handles = [
        rounder.register_forward_pre_hook(lambda _, given, name=name: checked(name, given[0].numpy()))
        for name, rounder in rounders(graph).items()
        if name not in weights
    ]
    try:
        for start, feeds in enumerate(part.batches(_BATCH)):
            samples = part.indices[start * _BATCH : (start + 1) * _BATCH]
            graph(*(torch.from_numpy(array) for array in feeds.values()))
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _set_ranges(
    graph: fx.GraphModule, histograms: dict[str, Histogram], calibrator: Calibrator, settings: QuantizeSettings
) -> None:
    """Set the ranges of all rounders: activations as a calibrator says, weights to their extremes."""
    set_weight_ranges(graph)
    known = rounders(graph)
    for name, histogram in histograms.items():
        low, high = choose_range(histogram, calibrator, settings)
        set_range(known[name], torch.tensor(low), torch.tensor(high))
