"""ONNX Runtime on the CPU, with its telemetry off."""

import json
import os
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..errors import DeviceError, RuntimeMissing
from .session import NodeTime, Session, TensorInfo

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # must be set before onnxruntime is imported

_DTYPES = {"float": "float32", "double": "float64"}
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_ERRORS_ONLY = 3
_ADDED = re.compile(r"(_token_\d+|_nchwc|_quant)+$")  # to the names of nodes that the runtime fuses


def version() -> str:
    """Return the version of the installed onnxruntime."""
    return str(_onnxruntime().__version__)


def open_session(path: Path, threads: int) -> Session:
    """Open an ONNX file on the CPU."""
    return _OnnxRuntimeSession(path, threads)


def write_optimized(path: Path, destination: Path) -> None:
    """Write what the runtime's basic optimizations, which keep to standard operators, make of a file.

    Raises:
        DeviceError: The runtime cannot open it.
    """
    runtime = _onnxruntime()
    options = _options(runtime, 1)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(destination)
    try:
        runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DeviceError(f"onnxruntime {version()} cannot open {path.name}: {_reason(error)}") from error


def node_times(path: Path, feeds: dict[str, Array], threads: int, calls: int = 30) -> list[NodeTime]:
    """Run a file and return every node that ran, by the runtime's own profile, in their order."""
    runtime = _onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = _options(runtime, threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for _ in range(calls):
                session.run(None, feeds)
        except Exception as error:
            raise DeviceError(f"onnxruntime cannot run {path.name}: {_reason(error)}") from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event)
    return [
        NodeTime(
            _ADDED.sub("", name),
            str(times[0]["args"]["op_name"]),
            statistics.median(float(event["dur"]) for event in times),
            next(
                (_DTYPES.get(kind, kind) for one in times[0]["args"].get("input_type_shape", ()) for kind in one), None
            ),
        )
        for name, times in found.items()
    ]


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return options


class _OnnxRuntimeSession(Session):
    def __init__(self, path: Path, threads: int) -> None:
        runtime = _onnxruntime()
        options = _options(runtime, threads)
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise DeviceError(f"onnxruntime {version()} cannot open {path.name}: {_reason(error)}") from error
        self._threads = threads
        self.inputs = [_tensor_info(value) for value in self._session.get_inputs()]
        self.outputs = [_tensor_info(value) for value in self._session.get_outputs()]
        self._output_names = [output.name for output in self.outputs]

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        try:
            results = self._session.run(self._output_names, feeds)
        except Exception as error:
            raise DeviceError(f"onnxruntime cannot run the model: {_reason(error)}") from error
        return dict(zip(self._output_names, results, strict=True))

    def describe(self) -> dict[str, str]:
        provider = str(self._session.get_providers()[0])
        return {"runtime": "onnxruntime", "version": version(), "provider": provider, "threads": str(self._threads)}


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise RuntimeMissing("onnxruntime is not installed: pip install onnxruntime") from error
        raise RuntimeMissing(f"onnxruntime is installed but does not load: {_reason(error)}") from error
    disable = getattr(onnxruntime, "disable_telemetry_events", None)
    if disable is not None:  # the variable comes too late where someone else imported onnxruntime first
        disable()
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    return onnxruntime


def _tensor_info(value: Any) -> TensorInfo:
    inner = re.fullmatch(r"tensor\((\w+)\)", value.type)
    dtype = _DTYPES.get(inner[1], inner[1]) if inner else str(value.type)
    shape = tuple(size if isinstance(size, int) else str(size or "?") for size in value.shape)
    return TensorInfo(str(value.name), shape, dtype)


def _reason(error: Exception) -> str:
    lines = _PREFIX.sub("", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
