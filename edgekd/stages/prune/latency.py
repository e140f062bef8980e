"""Latency as a pruning budget: the network is written and timed on this machine, which has to be the target."""

import statistics
from collections.abc import Callable

from torch import nn

from edgekd import host
from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.signature import Signature
from edgekd.stages.export.onnx_writer import write_onnx

ROUNDS = 12
SURE_ROUNDS = 36  # before a network is said to be within a budget


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


def share_of(module: nn.Module, signature: Signature, context: Context, limit: float) -> Callable[[nn.Module], float]:
    """Return a function that gives the latency of one float inference as a share of this network's.

    What seems to be within the limit is timed again, for longer, before it is believed.
    """
    session, own = _Against(module, signature, context), _widths(module)

    def measure(candidate: nn.Module) -> float:
        if _widths(candidate) == own:
            return 1.0
        share = session.share(candidate)
        return session.share(candidate, surely=True) if share <= limit else share

    return measure


def milliseconds_of(
    module: nn.Module, signature: Signature, context: Context, limit: float
) -> Callable[[nn.Module], float]:
    """Return a function that gives the p50 of one float inference in milliseconds; the limit is as in `share_of`.

    The machine's speed wanders between sessions, the ratio within one does not: it is the share of this network's time,
    multiplied with the median of all that was measured of that.
    """
    session = _Against(module, signature, context)

    def measure(candidate: nn.Module) -> float:
        milliseconds = session.share(candidate) * session.whole_ms
        return session.share(candidate, surely=True) * session.whole_ms if milliseconds <= limit else milliseconds

    return measure


class _Against:
    """Times networks beside this one, in the same interleaved rounds.

    The machine of some minutes ago is another one. Networks of the same widths are timed once: many steps cut nothing,
    because channel counts stay multiples of the granularity.
    """

    def __init__(self, module: nn.Module, signature: Signature, context: Context) -> None:
        self._files = {name: context.workdir / f"{name}.onnx" for name in ("before", "candidate")}
        write_onnx(module, signature, self._files["before"], opset=context.runtime.opset)
        self._signature, self._context = signature, context
        self._known: dict[tuple[tuple[int, ...], ...], tuple[int, float]] = {}  # rounds and share
        self._whole: list[float] = []

    @property
    def whole_ms(self) -> float:
        """Return the median over the sessions of p50 of the network that all are compared with."""
        return statistics.median(self._whole)

    def share(self, candidate: nn.Module, *, surely: bool = False) -> float:
        """Return the time of a network as a share of this one's."""
        widths, rounds = _widths(candidate), SURE_ROUNDS if surely else ROUNDS
        if self._known.get(widths, (0, 0.0))[0] < rounds:
            context = self._context
            write_onnx(candidate, self._signature, self._files["candidate"], opset=context.runtime.opset)
            timed = host.time_files(self._files, "onnxruntime", self._signature, context.runtime.threads, rounds=rounds)
            found = timed.comparison("before", "candidate")
            self._known[widths] = rounds, 1 / found.speedup
            self._whole.append(found.baseline.p50_ms)
            context.log(
                f"prune: measured {found.candidate.p50_ms:.3g} ms, {found.baseline.p50_ms:.3g} ms before any cut, in "
                f"{rounds} rounds: {1 / found.speedup:.1%} of the latency"
            )
        return self._known[widths][1]


def _widths(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(parameter.shape) for parameter in module.parameters())
