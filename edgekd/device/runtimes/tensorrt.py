"""TensorRT on an NVIDIA GPU. The engine is built from the ONNX file when that is opened: an engine does not travel.

Only TensorRT's Python package and the CUDA runtime library are used, which JetPack brings; memory is handled through the latter.
A call copies its inputs to the GPU and its outputs back, as an application does.
"""

import ctypes
import importlib
import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import DeviceError, RuntimeMissing
from .session import NodeTime, Session, TensorInfo

LARGEST_BATCH = 64  # of a model whose batch is free
_PACKAGES = ("tensorrt", "tensorrt_rtx")
_CUDA = ("libcudart.so", "libcudart.so.13", "libcudart.so.12")
_TO_DEVICE, _TO_HOST = 1, 2
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "UINT8": "uint8"}
_WORDS = (("int8", r"int8"), ("float16", r"fp16|half"), ("float32", r"fp32|float"), ("uint8", r"uint8"))
_NO_TENSORRT = "tensorrt is not installed: JetPack brings it (sudo apt install python3-libnvinfer)"


def version() -> str:
    """Return the version of the installed TensorRT."""
    return str(_tensorrt().__version__)


def usable() -> bool:
    """Return whether TensorRT is installed and there is an NVIDIA GPU."""
    try:
        _tensorrt()
        _Cuda()
    except RuntimeMissing:
        return False
    return True


def open_session(path: Path, threads: int) -> Session:
    """Build an engine of an ONNX file on this GPU; the processor's threads play no part."""
    return _TensorRtSession(path)


def node_times(path: Path, feeds: dict[str, Array], threads: int, calls: int = 30) -> list[NodeTime]:
    """Run a file and return every layer of its engine, by TensorRT's own profiler, in their order."""
    session = _TensorRtSession(path)
    found = session.layer_times_ms(feeds, calls)
    kinds = layer_kinds(session.layers_as_json())
    return [
        NodeTime(name, operator, 1e3 * statistics.median(times), dtype)
        for name, times in found.items()
        for operator, dtype in [kinds.get(name, ("unknown", None))]
    ]


def layer_kinds(text: str) -> dict[str, tuple[str, str | None]]:
    """Return the operator and element type of every layer, by name, from the JSON of TensorRT's engine inspector."""
    kinds: dict[str, tuple[str, str | None]] = {}
    for layer in json.loads(text).get("Layers", ()):
        if isinstance(layer, dict):
            first: dict[str, Any] = next(iter(layer.get("Inputs", ())), {})
            kinds[str(layer.get("Name"))] = (
                str(layer.get("LayerType", "unknown")),
                _element(str(first.get("Format/Datatype", ""))),
            )
    return kinds


def _element(text: str) -> str | None:
    """Return numpy's name of what a format such as `Row major Int8 format` holds, or None."""
    return next((name for name, word in _WORDS if re.search(rf"\b(?:{word})\b", text, re.IGNORECASE)), None)


class _Cuda:
    """The few calls of the CUDA runtime library that a session needs."""

    def __init__(self) -> None:
        for name in _CUDA:
            try:
                self._library = ctypes.CDLL(name)
                break
            except OSError:
                continue
        else:
            raise RuntimeMissing("the CUDA runtime library is not installed: JetPack brings it (libcudart.so)")
        count = ctypes.c_int()
        if self._library.cudaGetDeviceCount(ctypes.byref(count)) != 0 or count.value == 0:
            raise RuntimeMissing("there is no NVIDIA GPU here, or its driver is missing")
        self.stream = ctypes.c_void_p()
        self._check(self._library.cudaStreamCreate(ctypes.byref(self.stream)))

    def allocate(self, size: int) -> ctypes.c_void_p:
        pointer = ctypes.c_void_p()
        self._check(self._library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(max(1, size))))
        return pointer

    def free(self, pointer: ctypes.c_void_p) -> None:
        self._library.cudaFree(pointer)

    def to_device(self, pointer: ctypes.c_void_p, array: Array) -> None:
        self._copy(pointer, array.ctypes.data_as(ctypes.c_void_p), array.nbytes, _TO_DEVICE)

    def to_host(self, array: Array, pointer: ctypes.c_void_p) -> None:
        self._copy(array.ctypes.data_as(ctypes.c_void_p), pointer, array.nbytes, _TO_HOST)

    def wait(self) -> None:
        self._check(self._library.cudaStreamSynchronize(self.stream))

    def _copy(self, destination: ctypes.c_void_p, source: ctypes.c_void_p, size: int, direction: int) -> None:
        self._check(self._library.cudaMemcpyAsync(destination, source, ctypes.c_size_t(size), direction, self.stream))

    @staticmethod
    def _check(status: int) -> None:
        if status != 0:
            raise DeviceError(f"the CUDA runtime reports error {status}")


class _TensorRtSession(Session):
    def __init__(self, path: Path) -> None:
        self._package = _tensorrt()
        self._cuda = _Cuda()
        logger = self._package.Logger(self._package.Logger.ERROR)
        plan = build_plan(self._package, logger, path)
        self._engine = self._package.Runtime(logger).deserialize_cuda_engine(plan)
        if self._engine is None:
            raise DeviceError(f"TensorRT built an engine of {path.name} that this GPU does not take")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inside = self._package.TensorIOMode.INPUT
        self.inputs = [self._info(name) for name in names if self._engine.get_tensor_mode(name) == inside]
        self.outputs = [self._info(name) for name in names if self._engine.get_tensor_mode(name) != inside]
        self._buffers: dict[str, tuple[ctypes.c_void_p, int]] = {}

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        missing = {info.name for info in self.inputs} - set(feeds)
        if missing:
            raise DeviceError(f"tensorrt cannot run the model: no value for {', '.join(sorted(missing))}")
        for info in self.inputs:
            array = np.ascontiguousarray(feeds[info.name])
            if array.dtype != info.dtype or not self._context.set_input_shape(info.name, array.shape):
                raise DeviceError(
                    f"tensorrt cannot run the model: {info.name!r} is {array.dtype}{list(array.shape)}, expected {info.dtype}{list(info.shape)}"
                )
            self._cuda.to_device(self._buffer(info.name, array.nbytes), array)
        results = {
            info.name: np.empty(tuple(self._context.get_tensor_shape(info.name)), info.dtype) for info in self.outputs
        }
        for name, array in results.items():
            self._buffer(name, array.nbytes)
        if not self._context.execute_async_v3(self._cuda.stream.value):
            raise DeviceError("tensorrt cannot run the model: its call failed")
        for name, array in results.items():
            self._cuda.to_host(array, self._buffers[name][0])
        self._cuda.wait()
        return results

    def describe(self) -> dict[str, str]:
        return {"runtime": "tensorrt", "version": version(), "provider": "GPU", "threads": "1"}

    def layer_times_ms(self, feeds: dict[str, Array], calls: int) -> dict[str, list[float]]:
        """Return the times of every layer, by name, in the order in which they ran."""
        found: dict[str, list[float]] = {}

        class Profiler(self._package.IProfiler):  # type: ignore[name-defined,misc]
            def __init__(self, package: Any) -> None:
                package.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                found.setdefault(layer_name, []).append(ms)

        self.run(feeds)
        self._context.profiler = Profiler(self._package)
        for _ in range(calls):
            self.run(feeds)
        return found

    def layers_as_json(self) -> str:
        """Return what TensorRT's engine inspector tells."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._package.LayerInformationFormat.JSON))

    def _buffer(self, name: str, size: int) -> ctypes.c_void_p:
        pointer, had = self._buffers.get(name, (None, 0))
        if pointer is None or had < size:
            if pointer is not None:
                self._cuda.free(pointer)
            pointer = self._cuda.allocate(size)
            self._buffers[name] = pointer, size
            self._context.set_tensor_address(name, pointer.value)
        return pointer

    def _info(self, name: str) -> TensorInfo:
        kind = self._engine.get_tensor_dtype(name).name
        shape = tuple(int(size) if size >= 0 else "batch" for size in self._engine.get_tensor_shape(name))
        return TensorInfo(name, shape, _DTYPES.get(kind, kind.lower()))


def build_plan(package: Any, logger: Any, path: Path) -> Any:
    """Return the serialized engine of an ONNX file, with free batches of 1 to 64.

    Raises:
        DeviceError: TensorRT's parser or builder refuses it; the message names the node.
    """
    builder = package.Builder(logger)
    typed = getattr(package.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 is never otherwise
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = package.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reason = f"{errors[0].node_name()}: {errors[0].desc()}" if errors else "no reason is given"
        raise DeviceError(f"tensorrt {package.__version__} cannot open {path.name}: {reason}")
    config = builder.create_builder_config()
    config.profiling_verbosity = package.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        sizes = [tuple(size if size >= 0 else batch for size in value.shape) for batch in (1, 1, LARGEST_BATCH)]
        profile.set_shape(value.name, *sizes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise DeviceError(f"tensorrt {package.__version__} cannot build an engine of {path.name}")
    return plan


def _tensorrt() -> Any:
    for name in _PACKAGES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise RuntimeMissing(_NO_TENSORRT)
