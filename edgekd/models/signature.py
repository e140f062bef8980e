"""A model's signature: inputs, outputs, preprocessing, labels, task and metric; and the sidecar `model.toml`."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgekd.device.feeds import random_feeds
from edgekd.device.runtimes.session import TensorInfo
from edgekd.errors import InputError
from edgekd.target import explain

Task = Literal["classification", "regression", "segmentation", "anomaly", "embedding", "tokens", "detection"]
Dtype = Literal["float32", "float16", "int64", "int32", "uint8", "bool"]
BATCH = "batch"

_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*):)?(?P<shape>(?:\d+|N|batch)(?:x\d+)*)(?::(?P<dtype>\w+))?")


def class_axis(task: Task) -> int:
    """Return the axis of the classes in a network's outputs: the last one of token sequences (N, L, C), else the second."""
    return -1 if task == "tokens" else 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _no_code(value: str | None) -> str | None:
    if value is not None and ":" in value:
        raise ValueError("a file beside a model names no code; give package.module:function on the command line")
    return value


class TensorSpec(_Frozen):
    """Name, shape and dtype of one input or output. The first axis is the batch; its size there is `"batch"`."""

    name: str = Field(min_length=1)
    shape: tuple[int | str, ...] = Field(min_length=1)
    dtype: Dtype = "float32"

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("a name is printable text on one line")
        return name

    @field_validator("shape")
    @classmethod
    def _batch_first(cls, shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
        if any(not isinstance(size, int) or size < 1 for size in shape[1:]):
            raise ValueError("sizes after the batch axis are positive integers")
        return (BATCH, *shape[1:])

    def sized(self, batch: int) -> tuple[int, ...]:
        """Return the shape with that batch size."""
        return (batch, *(int(size) for size in self.shape[1:]))


class Preprocessing(_Frozen):
    """What the network expects to have been done to raw values: y = (x * scale - mean) / std, per channel.

    Raw images are unsigned bytes in (N, C, H, W); mean and std are in the scale of `x * scale`.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @model_validator(mode="after")
    def _lengths_agree(self) -> "Preprocessing":
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError("mean and std have one value each, or one a channel")
        if any(value == 0 for value in self.std):
            raise ValueError("std must not be 0")
        return self


class Signature(_Frozen):
    """What a network takes and gives, and how its answers are judged. `outputs` is filled by running it once."""

    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = ()
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None
    task: Task = "classification"
    metric: str | None = None

    @field_validator("metric")
    @classmethod
    def _names_no_code(cls, value: str | None) -> str | None:
        return _no_code(value)

    @model_validator(mode="after")
    def _names_differ(self) -> "Signature":
        names = [spec.name for spec in (*self.inputs, *self.outputs)]
        if len(set(names)) != len(names):
            raise ValueError("inputs and outputs have different names")
        return self

    def random_inputs(self, batch: int, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Return random inputs of the right shapes and dtypes, for tracing and for self-check samples."""
        return random_feeds((TensorInfo(spec.name, spec.sized(batch), spec.dtype) for spec in self.inputs), seed)


class Sidecar(_Frozen):
    """`model.toml` beside a model file: its signature, and the data it goes with.

    `data` is a folder or `.npz` beside the sidecar, or the name of a set of `calibration/`; `data_origin` and
    `data_licence` (an SPDX identifier) say whose they are; `origin` and `licence` say it of the network, whose answers
    bear them where it is a teacher. A sidecar travels with an untrusted model, so it never names code.
    """

    inputs: tuple[TensorSpec, ...] | None = None
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None
    task: Task = "classification"
    metric: str | None = None
    data: str | None = None
    data_origin: str | None = None
    data_licence: str | None = None
    origin: str | None = None
    licence: str | None = None

    @field_validator("metric")
    @classmethod
    def _names_no_code(cls, value: str | None) -> str | None:
        return _no_code(value)

    @property
    def wrong_data(self) -> str | None:
        """Return why `data` may not be followed, or None. It harms nobody who names other data."""
        if self.data is None:
            return None
        if ":" in self.data:
            return "a file beside a model names no code; give --data package.module:function"
        if PurePath(self.data).is_absolute() or ".." in PurePath(self.data).parts:
            return "a folder or .npz beside the sidecar, or the name of a set; give --data for any other"
        return None


def sidecar_path(model: Path) -> Path | None:
    """Return the sidecar file of a model, or None where there is none."""
    candidates = (model.with_suffix(".toml"), model.with_name("model.toml"))
    return next((path for path in candidates if path.is_file()), None)


def read_sidecar(model: Path) -> Sidecar:
    """Return the sidecar beside a model file (`<stem>.toml`, or `model.toml`), or an empty one.

    Raises:
        InputError: it is not TOML, or a field is wrong; the message names field and fix.
    """
    path = sidecar_path(model)
    if path is None:
        return Sidecar()
    try:
        return Sidecar.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def parse_inputs(texts: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Read `--input [NAME:]SHAPE[:DTYPE]`, e.g. `image:Nx1x28x28` or `1x3x224x224`; the first size is the batch.

    Raises:
        InputError: a text is not of that form.
    """
    specs = []
    for position, text in enumerate(texts):
        match = _INPUT.fullmatch(text)
        if match is None:
            raise InputError(f"--input {text!r} is not [NAME:]SHAPE[:DTYPE]; for example image:Nx3x224x224:float32")
        name = match["name"] or ("input" if len(texts) == 1 else f"input{position + 1}")
        _, *sizes = match["shape"].split("x")
        specs.append(tensor_spec(name, tuple(map(int, sizes)), match["dtype"] or "float32", f"--input {text!r}"))
    return tuple(specs)


def tensor_spec(name: str, sizes: Sequence[int], dtype: str, where: str) -> TensorSpec:
    """Return the description of a tensor with these sizes after the batch axis.

    Raises:
        InputError: name, sizes or dtype cannot be; the message begins with `where`.
    """
    try:
        return TensorSpec(name=name, shape=(BATCH, *sizes), dtype=dtype)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from error


def make_signature(where: str, **parts: Any) -> Signature:
    """Return a signature of these parts.

    Raises:
        InputError: they do not fit each other; the message begins with `where`.
    """
    try:
        return Signature.model_validate(parts)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from error
