"""OpenVINO on the CPU, in float32 where the model is: its default is bfloat16 where the processor has it."""

import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import DeviceError, RuntimeMissing
from .session import NodeTime, Session, TensorInfo

_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i64": "int64",
    "i32": "int32",
    "u8": "uint8",
    "i8": "int8",
}
_OPERATORS = {  # what ONNX calls them
    "Convolution": "Conv",
    "GroupConvolution": "Conv",
    "Deconvolution": "ConvTranspose",
    "FullyConnected": "Gemm",
    "FullyConnectedQuantizedLegacy": "Gemm",
    "ScaledDotProductAttention": "Attention",
}
_ADDED = re.compile(
    r"(/WithoutBiases|/DequantizationMultiply|/fq_weights_\d+)+$"
)  # to the names of nodes that were fused


def version() -> str:
    """Return the version of the installed openvino."""
    return re.split(r"[-+]", str(_openvino().__version__))[0]


def open_session(path: Path, threads: int) -> Session:
    """Open an ONNX file, or OpenVINO's own `.xml`, on the CPU."""
    return _OpenVinoSession(path, threads)


def node_times(path: Path, feeds: dict[str, Array], threads: int, calls: int = 30) -> list[NodeTime]:
    """Run a file and return every node that ran, by the runtime's own profile, in their order."""
    session = _OpenVinoSession(path, threads, PERF_COUNT=True)
    found: dict[str, list[Any]] = {}
    for _ in range(calls):
        session.run(feeds)
        for one in session.request.get_profiling_info():
            if one.status == one.Status.EXECUTED:
                found.setdefault(one.node_name, []).append(one)
    return [
        NodeTime(
            _ADDED.sub("", name),
            _OPERATORS.get(times[0].node_type, times[0].node_type),
            statistics.median(one.real_time.total_seconds() * 1e6 for one in times),
            _DTYPES.get(times[0].exec_type.rpartition("_")[2].lower()),
        )
        for name, times in found.items()
    ]


class _OpenVinoSession(Session):
    def __init__(self, path: Path, threads: int, **more: bool) -> None:
        runtime = _openvino()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            **more,
        }
        try:
            core = runtime.Core()
            self._model = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except Exception as error:
            raise DeviceError(f"openvino {version()} cannot open {path.name}: {_reason(error)}") from error
        self._threads = threads
        self.inputs = [_tensor_info(value) for value in self._model.inputs]
        self.outputs = [_tensor_info(value) for value in self._model.outputs]
        self.request = self._model.create_infer_request()
        self._bound: dict[str, Array] = {}

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        missing = {info.name for info in self.inputs} - set(feeds)
        if missing:
            raise DeviceError(f"openvino cannot run the model: no value for {', '.join(sorted(missing))}")
        try:
            for info in self.inputs:
                self._bind(info.name, feeds[info.name])
            self.request.infer()
        except Exception as error:
            raise DeviceError(f"openvino cannot run the model: {_reason(error)}") from error
        return {
            info.name: np.array(self.request.get_output_tensor(index).data) for index, info in enumerate(self.outputs)
        }

    def _bind(self, name: str, array: Array) -> None:
        """Let an input read an array where it lies; the same array of the call before is bound already."""
        if self._bound.get(name) is array:
            return
        lying = np.require(array, requirements=("C", "W"))
        self.request.set_tensor(name, _openvino().Tensor(lying, shared_memory=True))
        self._bound[name] = lying

    def own_ms(self) -> float | None:
        return float(self.request.latency)

    def describe(self) -> dict[str, str]:
        return {"runtime": "openvino", "version": version(), "provider": "CPU, f32", "threads": str(self._threads)}


def _openvino() -> Any:
    try:
        import openvino  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "openvino":
            raise RuntimeMissing("openvino is not installed: pip install openvino") from error
        raise RuntimeMissing(f"openvino is installed but does not load: {_reason(error)}") from error
    return openvino


def _tensor_info(value: Any) -> TensorInfo:
    kind = str(value.element_type.get_type_name())
    shape = tuple(size.get_length() if size.is_static else "?" for size in value.partial_shape)
    return TensorInfo(str(value.any_name), shape, _DTYPES.get(kind, kind))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
