"""The executors: each writes a target's scheme in the form that one runtime reads, found by the runtime's name."""

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.stages.quantize.executors import onnxruntime, openvino, tensorrt
from edgekd.stages.quantize.executors.executor import Candidate, Executor, Quantizer

EXECUTORS: dict[str, Executor] = {
    "onnxruntime": onnxruntime.EXECUTOR,
    "openvino": openvino.EXECUTOR,
    "tensorrt": tensorrt.EXECUTOR,
}

__all__ = ["EXECUTORS", "Candidate", "Executor", "Quantizer", "executor_of"]


def executor_of(context: Context) -> Executor:
    """Return what writes the int8 file of the run's runtime.

    Raises:
        InputError: the runtime runs no integers, nothing here writes for it, or not in its target's scheme.
    """
    place = f"{context.target.name} with {context.runtime_name}"
    scheme = context.runtime.quantization
    if scheme is None:
        raise InputError(f"{place} runs no int8; leave quantize out")
    executor = EXECUTORS.get(context.runtime_name)
    if executor is None:
        raise InputError(f"{place}: nothing here writes its int8 files yet; there is {', '.join(EXECUTORS)}")
    reason = executor.refusal(scheme)
    if reason is not None:
        raise InputError(f"{place}: {reason}")
    return executor
