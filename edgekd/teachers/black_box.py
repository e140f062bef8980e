"""Teachers whose inside is not seen: a function, and an ONNX file."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgekd.code import code_digest
from edgekd.device.batches import fixed_batch, run_all
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import Session
from edgekd.errors import InputError, StageError, device_errors_as
from edgekd.files import digest, sha256
from edgekd.losses.step import Answer
from edgekd.models.loading import load_onnx
from edgekd.models.onnx_graph import external_files
from edgekd.teachers.teacher import Teacher, batch_size, named_tensors, on_device_of

_PLAIN = (int, float, complex, str, bytes, type(None))  # values whose repr is the same in every process


class FunctionTeacher(Teacher):
    """A function from named arrays (N, ...) to an array, a tuple or mapping of arrays, or a list of texts.

    Its identity is the hash of the source file that defines it, of its own code in there, and of `version`. What the source
    does not show (values held by an object, a closure or defaults, the model behind a web service) has to be named by
    `version`.
    """

    def __init__(
        self,
        function: Callable[[dict[str, NDArray[Any]]], Any],
        *,
        licence: str,
        source: str,
        name: str | None = None,
        version: str = "",
    ) -> None:
        """Wrap a function.

        Raises:
            InputError: the function holds values or has no source file, and no `version` names what it is.
        """
        if not version and not _shown_by_source(function):
            raise InputError(
                "what this teacher answers is not shown by the source of its function (an object, a closure, defaults that "
                "are no plain values, or code without a file); wrap it in edgekd.teachers.FunctionTeacher with version=, a "
                "text that changes whenever its answers do"
            )
        self._function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.licence, self.source = licence, source
        thing: Any = function if inspect.isroutine(function) else type(function)
        shown = [thing.__module__, thing.__qualname__, code_digest(thing), _own_code(function), version]
        self._identity = digest(["function", *shown])

    @property
    def identity(self) -> str:
        """Return the hash of the function's source, name and version."""
        return self._identity

    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
    ) -> Answer:
        """Call the function with the batch as arrays."""
        self._refuse_taps(taps)
        arrays = _arrays(inputs)
        try:
            raw = self._function(arrays)
        except Exception as error:  # the user's function may raise anything
            said = " ".join(str(error).split())
            raise StageError(
                f"the teacher {self.name} fails: {type(error).__name__}: {said} (it is called with one mapping, "
                f"{', '.join(f'{name} {array.shape}' for name, array in arrays.items())})"
            ) from error
        return Answer(on_device_of(inputs, named_tensors(raw, batch_size(inputs), f"the teacher {self.name}")))


class OnnxTeacher(Teacher):
    """An ONNX file, run by ONNX Runtime on the CPU. Its identity is the hash of its files.

    Batches may have any size: a file with a fixed batch gets batches of that size, the last one filled up.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, licence: str = "not stated", source: str = "not stated"
    ) -> None:
        """Check the file; the runtime opens it when it is first asked, so a full cache never does.

        Raises:
            InputError: it is no ONNX file that can be read.
        """
        load_onnx(path)  # as careful as with any other ONNX file
        self.path, self.name, self._threads = path, path.stem, threads
        self.licence, self.source = licence, source
        self._identity = digest(["onnx", sha256(path), [sha256(file) for file in external_files(path)]])

    @property
    def identity(self) -> str:
        """Return the hash of the file and of the files with its external weights."""
        return self._identity

    @cached_property
    def _session(self) -> Session:
        with device_errors_as(InputError):
            return open_session("onnxruntime", self.path, self._threads)

    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
    ) -> Answer:
        """Run the batch; an input goes to the file's input of its name, or to the only one."""
        self._refuse_taps(taps)
        feeds = self._feeds(_arrays(inputs))
        with device_errors_as(StageError):
            outputs = self._session.run(feeds) if fixed_batch(self._session) is None else run_all(self._session, feeds)
        return Answer(on_device_of(inputs, named_tensors(outputs, batch_size(inputs), f"the teacher {self.name}")))

    def _feeds(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        wanted = self._session.inputs
        if len(wanted) == len(arrays) == 1:
            arrays = {wanted[0].name: next(iter(arrays.values()))}
        missing = [info.name for info in wanted if info.name not in arrays]
        if missing:
            raise InputError(
                f"the teacher {self.path.name} takes {', '.join(info.name for info in wanted)}; "
                f"the batch holds {', '.join(arrays)}"
            )
        return {info.name: np.ascontiguousarray(arrays[info.name], dtype=info.dtype) for info in wanted}


def _arrays(inputs: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in inputs.items()}


def _shown_by_source(function: Callable[..., Any]) -> bool:
    """Return whether the source of a function decides its answers."""
    if not inspect.isfunction(function) or function.__closure__:
        return False
    if not all(isinstance(value, _PLAIN) for value in _defaults(function)):
        return False
    file = inspect.getsourcefile(function)
    return file is not None and Path(file).is_file()


def _defaults(function: Any) -> list[Any]:
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _own_code(function: Callable[..., Any]) -> str:
    """Return what tells functions of one name in one file apart: their instructions, constants and default values."""
    if not inspect.isfunction(function):
        return ""
    plain = [value for value in _defaults(function) if isinstance(value, _PLAIN)]
    return repr([_shown_code(function.__code__), plain])


def _shown_code(code: CodeType) -> list[Any]:
    inner: list[Any] = []
    for value in code.co_consts:
        if isinstance(value, CodeType):
            inner.append(_shown_code(value))
        else:  # the order of a set differs from process to process
            inner.append(sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value))
    return [code.co_code.hex(), code.co_names, inner]
