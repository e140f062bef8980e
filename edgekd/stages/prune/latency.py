"""Latency as a pruning budget: the network is written and timed on this machine, which has to be the target."""

from collections.abc import Callable

from torch import nn

from edgekd import host
from edgekd.context import Context
from edgekd.device.comparison import Comparison
from edgekd.errors import InputError
from edgekd.models.signature import Signature
from edgekd.stages.export.onnx_writer import write_onnx

ROUNDS = 12


def check_measurable(setting: str, context: Context) -> None:
    """Refuse a setting that is obeyed by measuring latency, where that cannot be done here.

    Raises:
        InputError: this machine is not the target; its latency would say nothing about the target's.
    """
    if not host.is_target(context.target, host.this_machine()):
        raise InputError(
            f"{setting}: this machine is no {context.target.title}, and its latency says nothing about that one; "
            "use to_macs, or run edgekd on the target"
        )


def machine_identity() -> list[object]:
    """Return what of this machine a measured latency depends on."""
    machine = host.this_machine()
    return [host.describe(machine), machine.system, machine.cores]


def share_of(module: nn.Module, signature: Signature, context: Context) -> Callable[[nn.Module], float]:
    """Return a function that gives the latency of one float inference as a share of this network's."""
    compare, own = _against(module, signature, context), _widths(module)
    return lambda candidate: 1.0 if _widths(candidate) == own else 1 / compare(candidate).speedup


def milliseconds_of(module: nn.Module, signature: Signature, context: Context) -> Callable[[nn.Module], float]:
    """Return a function that gives the p50 of one float inference in milliseconds."""
    compare = _against(module, signature, context)
    return lambda candidate: compare(candidate).candidate.p50_ms


def _against(module: nn.Module, signature: Signature, context: Context) -> Callable[[nn.Module], Comparison]:
    """Return a function that times a network beside this one, in the same interleaved rounds.

    The machine of some minutes ago is another one. Networks of the same widths are timed once: many steps cut nothing,
    because channel counts stay multiples of the granularity.
    """
    files = {name: context.workdir / f"{name}.onnx" for name in ("before", "candidate")}
    write_onnx(module, signature, files["before"], opset=context.runtime.opset)
    known: dict[tuple[tuple[int, ...], ...], Comparison] = {}

    def compare(candidate: nn.Module) -> Comparison:
        widths = _widths(candidate)
        if widths not in known:
            write_onnx(candidate, signature, files["candidate"], opset=context.runtime.opset)
            timed = host.time_files(files, "onnxruntime", signature, context.runtime.threads, rounds=ROUNDS)
            known[widths] = found = timed.comparison("before", "candidate")
            context.log(
                f"prune: measured {found.candidate.p50_ms:.3g} ms, {found.baseline.p50_ms:.3g} ms before any cut"
            )
        return known[widths]

    return compare


def _widths(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(parameter.shape) for parameter in module.parameters())
