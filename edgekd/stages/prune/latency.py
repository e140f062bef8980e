"""Latency as a pruning budget: the network is written and timed on this machine, which has to be the target."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import nn

from edgekd import host
from edgekd.context import Context
from edgekd.device.latency import measure
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError
from edgekd.models.network import count_parameters
from edgekd.models.signature import Signature
from edgekd.stages.export.onnx_writer import write_onnx


def check_measurable(context: Context) -> None:
    """Refuse a latency budget that cannot be measured here.

    Raises:
        InputError: this machine is not the target; its latency would say nothing about the target's.
    """
    if not host.is_target(context.target, host.this_machine()):
        raise InputError(
            f"to_latency: this machine is no {context.target.title}, and its latency says nothing about that one; "
            "use to_macs, or run edgekd on the target"
        )


def latency_of(signature: Signature, context: Context) -> Callable[[nn.Module], float]:
    """Return a function that gives the p50 of one float inference in milliseconds."""
    check_measurable(context)

    known: dict[int, float] = {}  # many steps cut nothing, because channel counts stay multiples of the granularity

    def latency(module: nn.Module) -> float:
        parameters = count_parameters(module)
        if parameters not in known:
            known[parameters] = timed(module)
        return known[parameters]

    def timed(module: nn.Module) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "candidate.onnx"
            write_onnx(module, signature, path, opset=context.runtime.opset)
            session = open_session("onnxruntime", path, context.runtime.threads)
            feeds = signature.random_inputs(1)
            return measure(lambda: session.run(feeds), duration_s=2.0, warmup_s=1.0).p50_ms

    return latency
