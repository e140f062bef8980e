"""Makes good and malicious model files. The payload of a malicious one creates a marker file, and nothing else."""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from edgekd.models.loading.reading import read_records, write_archive


@dataclass
class Marker:
    """The file that shows that a payload ran."""

    path: Path

    @property
    def exists(self) -> bool:
        return self.path.exists()

    @property
    def expression(self) -> str:
        """Return Python code that creates the marker."""
        return f"open({str(self.path)!r},'w')"

    @property
    def command(self) -> str:
        """Return a shell command that creates the marker."""
        return f"touch '{self.path}'"

    def take(self) -> bool:
        """Return whether the marker exists, and remove it: the positive control of a test."""
        found = self.path.exists()
        self.path.unlink(missing_ok=True)
        return found


class Picture(nn.Sequential):
    """A sequential network whose input has a name of its own."""

    def forward(self, picture: Tensor) -> Tensor:
        """Return the logits."""
        result: Tensor = super().forward(picture)
        return result


def small_network() -> nn.Module:
    """Return a network for (N, 1, 6, 6) in eval mode, with batch statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    network(torch.randn(8, 1, 6, 6))
    return network.eval()


FACTORY = f"{small_network.__module__}:small_network"


class Payload:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def shell(marker: Marker) -> Payload:
    return Payload(os.system, marker.command)


def evaluated(marker: Marker) -> Payload:
    return Payload(eval, marker.expression)


def call_pickle(module: str, name: str, *texts: str) -> bytes:
    """Return a pickle, protocol 2, that calls a global with texts: GLOBAL ... REDUCE."""
    arguments = b"".join(b"X" + len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + arguments + b"tR."


def stack_pickle(module: str, name: str, *texts: str) -> bytes:
    """Return a pickle, protocol 4, that calls a global with texts: STACK_GLOBAL ... REDUCE."""

    def text(value: str) -> bytes:
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + b"".join(map(text, texts)) + b"tR."


def save_zip(path: Path, pickle: bytes) -> Path:
    """Write a pickle as torch.save would: a zip with data.pkl in it."""
    path.write_bytes(write_archive({"data.pkl": pickle, "version": b"3\n", "byteorder": b"little"}).getvalue())
    return path


def save_tar(path: Path, pickle: bytes) -> Path:
    """Write a pickle in the tar format that torch used before 2018."""
    import pickle as python_pickle

    with tarfile.open(path, "w") as archive:
        for name, data in (
            ("storages", python_pickle.dumps(0, 2) + python_pickle.dumps([], 2)),
            ("tensors", python_pickle.dumps(0, 2)),
            ("pickle", pickle),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def change_archive(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a copy of a torch archive with changed records."""
    records = read_records(source)
    change(records)
    target.write_bytes(write_archive(records).getvalue())
    return target


def change_program(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write a copy of a `.pt2` with a changed graph."""

    def edit(records: dict[str, bytes]) -> None:
        program = json.loads(records["models/model.json"])
        change(program)
        records["models/model.json"] = json.dumps(program).encode()

    return change_archive(source, target, edit)


def write_onnx(path: Path, **external: Any) -> Path:
    """Write a model y = x @ w; the given entries put w into external data."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    if external:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in external.items():
            entry = weight.external_data.add()
            entry.key, entry.value = key, str(value)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])],
        [weight],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    path.write_bytes(model.SerializeToString())
    return path


def empty_zip(path: Path) -> Path:
    """Write a zip archive of something else."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    return path
