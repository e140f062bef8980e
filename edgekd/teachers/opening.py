"""What a person names as teacher becomes one: a network, an ONNX file, a folder of stored outputs, a function."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from edgekd.code import import_object
from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.models.signature import Signature
from edgekd.models.source import Opening, open_model
from edgekd.state import OnnxForm
from edgekd.teachers.black_box import FunctionTeacher, OnnxTeacher
from edgekd.teachers.live import LiveTeacher
from edgekd.teachers.stored import DESCRIPTION, StoredTeacher
from edgekd.teachers.teacher import Teacher

TeacherSource = str | Path | nn.Module | Teacher | Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class OpenedTeacher:
    """A teacher that can be made for a training part; `identity` is the hash of what it is made from."""

    identity: str
    make: Callable[[Part], Teacher]


def open_teachers(
    sources: TeacherSource | Sequence[TeacherSource] | None,
    signature: Signature,
    *,
    trust: Sequence[str] = (),
    factory: str | None = None,
    threads: int = 1,
) -> dict[str, OpenedTeacher]:
    """Open the teachers that are named, by a name of their own each.

    Args:
        sources: files, run directories, folders with `teacher.toml`, `package.module:function`, networks, functions, or
            teachers; a network whose inputs neither its sidecar nor its archive tells takes the student's.
        signature: the student's.
        trust: packages whose layer classes a pickled network may use.
        factory: `package.module:function` that builds the network for a file of weights.
        threads: for ONNX files.

    Raises:
        InputError: one cannot be opened.
    """
    if sources is None:
        return {}
    listed = list(sources) if isinstance(sources, (list, tuple)) else [sources]
    opened: dict[str, OpenedTeacher] = {}
    for source in listed:
        name, teacher = _open(source, signature, Opening(tuple(trust), factory), threads)  # type: ignore[arg-type]
        count = sum(known.partition("#")[0] == name for known in opened)
        opened[f"{name}#{count + 1}" if count else name] = teacher
    return opened


def _open(source: TeacherSource, signature: Signature, opening: Opening, threads: int) -> tuple[str, OpenedTeacher]:
    if isinstance(source, Teacher):
        teacher = source
        return teacher.name, OpenedTeacher(teacher.content, teacher.for_part)
    if isinstance(source, (str, Path)) and not Path(source).exists() and ":" in str(source):
        return _function(import_object(str(source)), str(source))
    if not isinstance(source, (str, Path, nn.Module)):
        return _function(source, getattr(source, "__name__", "function"))
    if not isinstance(source, nn.Module) and (Path(source) / DESCRIPTION).is_file():
        folder = Path(source)
        return folder.name, OpenedTeacher(
            StoredTeacher.identity_of(folder), lambda part: StoredTeacher.of(folder, part)
        )
    try:
        opened = open_model(source, opening, signature, network=True)
    except InputError as error:
        raise InputError(f"the teacher: {str(error).replace('--model', '--teacher-model')}") from error
    licence = opened.sidecar.licence or "not stated"
    whence = opened.sidecar.origin or (opened.name if isinstance(source, nn.Module) else Path(source).name)
    if isinstance(opened.state.form, OnnxForm):
        path = opened.state.form.path
        return opened.name, OpenedTeacher(
            opened.identity, lambda part: OnnxTeacher(path, threads=threads, licence=licence, source=whence)
        )
    network, own = opened.state.torch.module, opened.state.signature

    def live(part: Part) -> Teacher:
        copied = copy.deepcopy(network)
        return LiveTeacher(opened.name, copied, opened.identity, own, licence=licence, source=whence)

    return opened.name, OpenedTeacher(opened.identity, live)


def _function(function: Any, name: str) -> tuple[str, OpenedTeacher]:
    if not callable(function):
        raise InputError(f"the teacher {name} is no function but {type(function).__name__}")
    licence = str(getattr(function, "licence", "not stated"))
    teacher = FunctionTeacher(function, licence=licence, source=name, name=name.rpartition(":")[2])
    return teacher.name, OpenedTeacher(teacher.identity, lambda part: teacher)
