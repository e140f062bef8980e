"""Which nodes did not run in integers in the runtime's own profile, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from edgekd.device.layers import converts, in_integers, total_us
from edgekd.device.runtimes import node_times
from edgekd.device.runtimes.session import NodeTime
from edgekd.models.onnx_graph import MULTIPLIES


@dataclass(frozen=True)
class Kernel:
    """What ran: a node, its operator, median time and share of all; `reason` is set where it multiplies in float."""

    name: str
    operator: str
    time_us: float
    share: float
    integers: bool
    reason: str | None


def kernels(
    path: Path,
    model: onnx.ModelProto,
    feeds: dict[str, NDArray[Any]],
    threads: int,
    kept: Mapping[str, str],
    runtime: str,
) -> list[Kernel]:
    """Run a file, which holds this model, and return what ran, in its order; `kept` tells why nodes stayed in float.

    Raises:
        DeviceError: the runtime cannot run it.
    """
    times = node_times(runtime, path, feeds, threads)
    total = total_us(times)
    makers = {name: node for node in model.graph.node for name in node.output}
    nodes = {**makers, **{node.name: node for node in model.graph.node}}  # a node that was fused has either name
    found = []
    for one in times:
        node = nodes.get(one.name)
        name = one.name if node is None else node.name or one.name
        reason = _reason(one, node, makers, model, kept, runtime)
        found.append(Kernel(name, one.operator, one.time_us, one.time_us / total, in_integers(one), reason))
    return found


def conversion_share(found: Sequence[Kernel]) -> float:
    """Return the share of the time that goes into rounding, casts and changes of the layout."""
    return sum(one.share for one in found if converts(one.operator))


def _reason(
    one: NodeTime,
    node: onnx.NodeProto | None,
    makers: dict[str, onnx.NodeProto],
    model: onnx.ModelProto,
    kept: Mapping[str, str],
    runtime: str,
) -> str | None:
    """Return why a node that multiplies ran in float."""
    if in_integers(one) or not MULTIPLIES.search(one.operator):
        return None
    if node is None:
        return "the runtime made this node itself"
    if kept.get(node.name):
        return f"it was left in float ({kept[node.name]})"
    rounded = [name for name in node.input if name in makers and makers[name].op_type == "DequantizeLinear"]
    if not rounded:
        return "nothing that it reads is rounded in the file: it was left in float"
    if node.input[0] not in rounded:
        return f"its weights are rounded, {node.input[0]} is not"
    others = [name for name in node.input[1:2] if name not in rounded]
    if others:
        return f"it reads {others[0]} in float"
    if runtime != "onnxruntime":
        return f"{runtime} chose a kernel in float"
    readers = [other for other in model.graph.node if node.output[0] in other.input]
    behind = next((other for other in readers if other.op_type != "QuantizeLinear"), None)
    if behind is not None:
        return f"its output goes into {behind.op_type} {behind.name} in float; only Conv with Q behind it has an integer kernel"
    if not readers and node.op_type != "MatMul":
        return "its output leaves the graph in float"
    return f"{one.operator} has no integer kernel in this form (bits, axis, signs or groups)"
