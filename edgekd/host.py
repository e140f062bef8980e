"""This machine: is it the target, and how fast do files run on it."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekd.device.batches import fixed_batch
from edgekd.device.comparison import Interleaved, interleave
from edgekd.device.machine import Machine, read_machine
from edgekd.device.runtimes import open_session, usable_here
from edgekd.figures import Figure
from edgekd.models.signature import Signature
from edgekd.target import Target


def is_target(target: Target, machine: Machine) -> bool:
    """Return whether a figure measured here is a figure of the target."""
    if machine.emulated:
        return False
    if machine.architecture in target.architectures:
        return True
    return is_board(target, machine.board) and _memory_fits(target, machine)


def is_board(target: Target, board: str | None) -> bool:
    """Return whether a device tree's model is one of the target's; of several memories it does not tell which."""
    return any(fnmatchcase(board or "", model) for model in target.board_models)


def _memory_fits(target: Target, machine: Machine) -> bool:
    """Tell apart the variants of one module: each has twice the memory of the next, less what the system keeps."""
    if target.limits.memory_bytes is None:
        return True
    share = (machine.memory_mib or 0) * 2**20 / target.limits.memory_bytes
    return 0.5 < share <= 1


def is_runtime(target: Target, runtime: str, machine: Machine) -> bool:
    """Return whether a figure measured here is one of the target with its runtime."""
    return is_target(target, machine) and runtime_here(runtime) == runtime


def runtime_here(name: str) -> str:
    """Return the runtime in which the files of a runtime are judged and timed here: itself, or ONNX Runtime in its place."""
    return name if usable_here(name) else "onnxruntime"


def runtime_title(name: str) -> str:
    """Return what people call the runtime in which the files of a runtime are judged and timed here."""
    return {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}.get(
        runtime_here(name), runtime_here(name)
    )


def describe(machine: Machine) -> str:
    """Return what a figure says it was measured on: processor and instruction set."""
    isa = f", {machine.int8_isa}" if machine.int8_isa else ", no int8 instructions"
    return f"{machine.cpu_model or machine.architecture}{isa}"


def time_files(
    files: Mapping[str, Path],
    runtime: str,
    signature: Signature,
    threads: int,
    *,
    rounds: int = 30,
    feeds: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
) -> Interleaved:
    """Time one inference of several files in interleaved rounds.

    Each file gets its own `feeds`; without them random ones: batch 1, or the batch that the file is fixed to.
    """
    calls = {}
    for name, path in files.items():
        session = open_session(runtime, path, threads)
        given = signature.random_inputs(fixed_batch(session) or 1) if feeds is None else feeds[name]
        given = {info.name: given[info.name].astype(info.dtype) for info in session.inputs}
        calls[name] = lambda session=session, given=given: session.run(given)
    return interleave(calls, blocks=rounds, duration_s=60.0)


def latency_figures(timed: Mapping[str, Any], on: str) -> dict[str, Figure]:
    """Return the figures p50 and p95 of one file's latency, as `Latency.to_dict` gives it."""
    n = timed["n"]
    p50 = Figure("ms", timed["p50_ms"], "measured", on, timed["p50_low_ms"], timed["p50_high_ms"], n)
    p95 = (
        Figure.absent("ms", f"{n} calls are too few for p95")
        if timed["p95_ms"] is None
        else Figure("ms", timed["p95_ms"], "measured", on, timed["p95_low_ms"], timed["p95_high_ms"], n)
    )
    return {"latency_p50_ms": p50, "latency_p95_ms": p95}


def this_machine() -> Machine:
    """Return this machine."""
    return read_machine()
