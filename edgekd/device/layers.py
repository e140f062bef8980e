"""Where the time of a call goes, by the runtime's own profile: node by node, and how much of it computes in integers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arrays import Array
from .runtimes import node_times
from .runtimes.session import NodeTime

_INTEGERS = ("int8", "uint8", "int4", "uint4", "int16")
_CONVERSIONS = (
    *("QuantizeLinear", "DequantizeLinear", "Cast", "FakeQuantize"),
    *("Reorder", "ReorderInput", "ReorderOutput", "Transpose", "Reformat"),
)


def profile_layers(runtime: str, path: Path, feeds: dict[str, Array], threads: int) -> dict[str, Any]:
    """Return the nodes that ran, in their order, with time, share and element type, and what they add up to.

    The profile slows calls down a little, so that times are to be compared with each other, not with latencies.

    Raises:
        DeviceError: The runtime cannot run the file.
    """
    times = node_times(runtime, path, feeds, threads)
    total = total_us(times)
    return {
        "total_us": total,
        "integer_share": sum(one.time_us for one in times if in_integers(one)) / total,
        "conversion_share": sum(one.time_us for one in times if converts(one.operator)) / total,
        "nodes": [
            {
                "name": one.name,
                "operator": one.operator,
                "time_us": one.time_us,
                "share": one.time_us / total,
                "dtype": one.dtype,
            }
            for one in times
        ],
    }


def total_us(times: Sequence[NodeTime]) -> float:
    """Return the time of all nodes together, in microseconds, above 0."""
    return max(sum(one.time_us for one in times), 1e-9)


def in_integers(node: NodeTime) -> bool:
    """Return whether a node computes in integers; one that only converts does not compute."""
    return node.dtype in _INTEGERS and not converts(node.operator)


def converts(operator: str) -> bool:
    """Return whether an operator only rounds, casts or changes the layout."""
    return operator in _CONVERSIONS
