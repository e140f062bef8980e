"""As few layers in float as hold the accuracy: a bounded search, from the noisiest layer on.

Every layer is rounded alone in the float network; its noise is the squared change of the outputs. With the k noisiest
layers in float the drop falls with k, apart from chance, so k is found by bisection. Then those of the k that are not
needed go back to int8, the least noisy first; none does where the least noisy layer of all is too much alone. Each step
is judged on the whole validation part.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgekd.data import Part
from edgekd.evaluate import Outputs, run_onnx
from edgekd.models.qdq_graph import QdqGraph
from edgekd.stages.quantize.sensitivity import squared_change

SAMPLES = 64  # of the validation part, to rank layers on
RETURNED = 8  # layers that are tried in int8 again


@dataclass(frozen=True)
class Found:
    """The layers in float, noisiest first, the drop with them, and whether it is small enough."""

    layers: tuple[str, ...]
    drop: float
    holds: bool


def search(
    quantized: onnx.ModelProto,
    prepared: onnx.ModelProto,
    part: Part,
    drop_of: Callable[[Outputs], float],
    most: float,
    workdir: Path,
    threads: int,
    log: Callable[[str], None],
) -> Found:
    """Return the layers to keep in float so that the drop is at most `most`; the best that was seen where none does.

    Args:
        quantized: the file in Q/DQ form.
        prepared: its float graph.
        part: to judge on.
        drop_of: says how much worse outputs are than the float network's.
        most: the largest drop allowed.
        workdir: for files in between.
        threads: of the runtime.
        log: is told of every step.
    """
    graph = QdqGraph(quantized, prepared)
    everything = [layer.name for layer in graph.layers]
    path = workdir / "search.onnx"

    def outputs(rounded: Collection[str], of: Part) -> Outputs:
        onnx.save(graph.rounding(rounded), str(path))
        return run_onnx(path, of, threads)

    def drop(kept: Sequence[str]) -> float:
        value = drop_of(outputs([name for name in everything if name not in kept], part))
        log(f"quantize: {len(kept)} of {len(everything)} layers in float: drop {value:.3g} (at most {most:g})")
        return value

    few = part.take(SAMPLES)
    reference = outputs((), few)
    noise = {}
    for name in everything:
        alone = outputs((name,), few)
        noise[name] = sum(squared_change(alone[key], one) for key, one in reference.items() if one.dtype.kind == "f")
    order = sorted(everything, key=lambda name: -noise[name])
    seen: dict[tuple[str, ...], float] = {(): drop(())}
    low, high = 0, len(order)  # `low` of them do not suffice, `high` do: all of them are the float network
    if seen[()] <= most:
        high = 0
    while high - low > 1:
        middle = (low + high) // 2
        kept = tuple(order[:middle])
        seen[kept] = drop(kept)
        low, high = (low, middle) if seen[kept] <= most else (middle, high)
    kept = tuple(order[:high])
    if kept not in seen:
        seen[kept] = drop(kept)
    # Without the last one it was too much already; where that is the least noisy of all, so is any other alone.
    returning = kept[-RETURNED - 1 : -1] if len(kept) < len(order) else ()
    for name in reversed(returning):
        fewer = tuple(one for one in kept if one != name)
        seen[fewer] = drop(fewer)
        kept = fewer if seen[fewer] <= most else kept
    path.unlink()
    if seen[kept] > most:
        kept = min(seen, key=lambda one: seen[one])
    return Found(kept, seen[kept], seen[kept] <= most)
