"""Latency as a pruning budget: the network is written and timed on this machine, which has to be the target."""

from collections.abc import Callable

from torch import nn

from edgekd import host
from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.signature import Signature
from edgekd.stages.export.onnx_writer import write_onnx

_ROUNDS = 12


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


def machine_identity() -> list[object]:
    """Return what of this machine a measured latency depends on."""
    machine = host.this_machine()
    return [host.describe(machine), machine.system, machine.cores]


def latency_of(module: nn.Module, signature: Signature, context: Context) -> Callable[[nn.Module], float]:
    """Return a function that gives the latency of one float inference as a share of this network's.

    Both are timed in the same interleaved rounds: the machine of some minutes ago is another one.
    """
    check_measurable(context)
    files = {name: context.workdir / f"{name}.onnx" for name in ("before", "candidate")}
    write_onnx(module, signature, files["before"], opset=context.runtime.opset)
    known = {_widths(module): 1.0}  # many steps cut nothing, because channel counts stay multiples of the granularity

    def latency(candidate: nn.Module) -> float:
        widths = _widths(candidate)
        if widths not in known:
            write_onnx(candidate, signature, files["candidate"], opset=context.runtime.opset)
            timed = host.time_files(files, "onnxruntime", signature, context.runtime.threads, rounds=_ROUNDS)
            known[widths] = 1 / timed.comparison("before", "candidate").speedup
        return known[widths]

    return latency


def _widths(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(parameter.shape) for parameter in module.parameters())
