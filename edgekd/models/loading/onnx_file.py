"""Reads ONNX models, with external data from the model's own folder only."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from edgekd.errors import InputError
from edgekd.models.loading.reading import reading, shown

if TYPE_CHECKING:
    import onnx

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_MAX_IR = 13  # what ONNX Runtime 1.31 accepts
_MAX_OPSET = 26
_MIN_OPSET = 7
_PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
MAX_SIZE = 2 * 2**30  # protobuf's own limit
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "GRU", "LSTM")


def load_onnx_file(path: Path) -> "onnx.ModelProto":
    """Return a checked ONNX model with all of its data in memory.

    Raises:
        InputError: damaged, invalid, too new for ONNX Runtime, or it reaches for files outside its folder.
    """
    import onnx

    with reading(path):
        if path.stat().st_size >= MAX_SIZE:
            raise InputError(f"{path} is larger than ONNX allows (2 GiB). Export it with external data.")
        model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())  # onnx.load would go by the suffix
        _check_versions(path, model)
        messages = list(_messages(model))
        _check_operators(path, messages)
        for tensor in messages:
            if isinstance(tensor, onnx.TensorProto) and tensor.data_location == onnx.TensorProto.EXTERNAL:
                _bring_in(path, tensor)
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            reason = shown(str(error).strip().splitlines()[0], 300)
            raise InputError(f"{path} is not a valid ONNX model: {reason}. Export it again.") from error
        _check_weights(path, model, messages)
        return model


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all messages in it: graphs, nodes, tensors, wherever they are nested."""
    pending = [message]
    while pending:
        current = pending.pop()
        yield current
        for field, value in current.ListFields():
            if field.message_type is not None:
                pending += list(value) if field.is_repeated else [value]


def _check_versions(path: Path, model: "onnx.ModelProto") -> None:
    if not model.HasField("graph") or not model.ir_version:
        raise InputError(f"{path} is not an ONNX model. Export it again.")
    if model.ir_version > _MAX_IR:
        raise InputError(
            f"{path} has ONNX IR version {model.ir_version}; ONNX Runtime reads up to {_MAX_IR}. "
            "Set model.ir_version = 10 before saving, or export with torch.onnx.export."
        )
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not _MIN_OPSET <= opset.version <= _MAX_OPSET:
            raise InputError(
                f"{path} uses ONNX opset {opset.version}; ONNX Runtime runs {_MIN_OPSET} to {_MAX_OPSET}. "
                "Export it with opset_version=20, or convert it with onnx.version_converter."
            )


def _check_operators(path: Path, messages: list[Any]) -> None:
    import onnx

    for message in messages:
        has_domain = isinstance(message, onnx.NodeProto | onnx.FunctionProto)
        if has_domain and message.domain not in _DOMAINS:
            raise InputError(
                f"{path} needs operators of the domain {shown(message.domain)!r}, which ONNX Runtime does not "
                "have. Export it with standard ONNX operators only (dynamo=True inlines functions)."
            )
        if isinstance(message, onnx.NodeProto) and message.op_type == "EPContext":
            raise InputError(
                f"{path} holds an EPContext node: code compiled for one device. Use the ONNX file it was made from."
            )


def _check_weights(path: Path, model: "onnx.ModelProto", messages: list[Any]) -> None:
    """Refuse NaN in any tensor and infinity in the weights of a layer; elsewhere it may be a mask."""
    import numpy as np
    import onnx

    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    weights = {name for node in model.graph.node if node.op_type in _LAYERS for name in node.input[1:]}
    for tensor in messages:
        if isinstance(tensor, onnx.TensorProto) and tensor.data_type in kinds:
            values = onnx.numpy_helper.to_array(tensor)
            wrong = ~np.isfinite(values) if tensor.name in weights else np.isnan(values)
            if wrong.any():
                raise InputError(
                    f"{path} has NaN or infinite weights in {shown(tensor.name)}. "
                    "The training diverged or the file is damaged: take an earlier checkpoint."
                )


def _bring_in(path: Path, tensor: "onnx.TensorProto") -> None:
    """Read a tensor's external data into it."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    tensor.raw_data = _slice(path, tensor, entries)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _slice(path: Path, tensor: "onnx.TensorProto", entries: dict[str, str]) -> bytes:
    what = f"{path}: the external data of {shown(tensor.name)!r}"
    location = entries.get("location", "")
    folder = path.parent.resolve()
    relative = PureWindowsPath(location)  # knows both kinds of slashes, and drives
    if not location or "\0" in location or relative.is_absolute() or relative.drive or relative.root:
        raise InputError(f"{what} is at {shown(location)!r}, which is no relative path. Save the model again.")
    file_path = (folder / location).resolve()
    if ".." in relative.parts or not file_path.is_relative_to(folder):
        raise InputError(
            f"{what} is at {shown(location)!r}, outside the model's folder. Put model and data into one folder, "
            "as files and not as links."
        )
    if not file_path.is_file():
        raise InputError(f"{what} is in {shown(location)!r}, which is no file there. Keep that file beside the model.")
    with file_path.open("rb") as file:
        available = os.fstat(file.fileno()).st_size
        offset = int(entries.get("offset", 0))
        needed = _size(tensor)
        length = int(entries.get("length", available - offset if needed is None else needed))
        if offset < 0 or length < 0 or offset + length > available or needed not in (None, length):
            raise InputError(
                f"{what} should be {needed if needed is not None else length} bytes from {offset} on in "
                f"{shown(location)!r}; the model says {length}, and the file has {available}. "
                "Copy model and data again, both from one export."
            )
        file.seek(offset)
        return file.read(length)


def _size(tensor: "onnx.TensorProto") -> int | None:
    """Return how many bytes the tensor's raw data takes, None for types that have none (text)."""
    import onnx

    if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        return None
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    whole_bytes = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    bits = _PACKED_BITS.get(name, 8 * whole_bytes)
    size: int = (math.prod(tensor.dims) * bits + 7) // 8
    return size
