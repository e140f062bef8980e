"""A teacher that is a folder of stored outputs, wherever they were computed."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from edgekd.data import Part
from edgekd.device.arrays import read_arrays
from edgekd.errors import InputError, device_errors_as
from edgekd.files import digest, folder_in_one_step, sha256
from edgekd.losses.step import Answer
from edgekd.target import explain
from edgekd.teachers.teacher import Teacher, named_tensors, on_device_of

DESCRIPTION = "teacher.toml"


class StoredDescription(BaseModel):
    """`teacher.toml` of a folder of stored outputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="of the teacher")
    licence: str = Field(description="of its answers, an SPDX identifier")
    source: str = Field(description="where they come from")
    data: str = Field(pattern="^[0-9a-f]{64}$", description="hash of the data set that the rows belong to")
    files: dict[str, str] = Field(min_length=1, description="SHA-256 of every file by its name; the main output first")


class StoredTeacher(Teacher):
    """Rows of stored outputs, one for every sample of a data set, in the data set's order.

    A `.npy` file is the output of its name; `.npz` and `.safetensors` files hold one or more outputs by name. Beside them
    lies `teacher.toml` (see `StoredDescription`; `store_outputs` writes it).
    """

    def __init__(self, folder: Path, data: str, rows: NDArray[np.intp]) -> None:
        """Open the folder and check its files against their hashes.

        Args:
            folder: of the stored outputs.
            data: hash of the data set trained on, `Dataset.digest()`.
            rows: position in the data set of every training sample, (samples,).

        Raises:
            InputError: it cannot be read, a file was changed, or the rows belong to other data or are too few.
        """
        self.folder = folder
        self._described = _read_description(folder)
        self.name, self.licence, self.source = self._described.name, self._described.licence, self._described.source
        if self._described.data != data:
            raise InputError(
                f"{folder} holds answers to other data (hash {self._described.data[:12]}, these have {data[:12]}); "
                "compute them again for these data"
            )
        self._rows = rows
        self._outputs = _read_outputs(folder, self._described.files)
        needed = int(rows.max(initial=-1)) + 1
        few = [f"{name} has {len(tensor)}" for name, tensor in self._outputs.items() if len(tensor) < needed]
        if few:
            raise InputError(f"{folder}: the data need at least {needed} rows; {', '.join(few)}")

    @classmethod
    def of(cls, folder: Path, part: Part) -> "StoredTeacher":
        """Open a folder for the samples of a part.

        Raises:
            InputError: as above, or an output does not have a row for every sample of the data set.
        """
        made = cls(folder, part.dataset.digest(), part.indices)
        for name, tensor in made._outputs.items():
            if len(tensor) != len(part.dataset):
                raise InputError(
                    f"{folder}: {name} has {len(tensor)} rows, the data set {len(part.dataset)} samples; "
                    "store one row a sample, in the data set's order"
                )
        return made

    def for_part(self, part: Part) -> "StoredTeacher":
        """Return the teacher with the rows of this part's samples.

        Raises:
            InputError: the rows belong to other data.
        """
        return StoredTeacher.of(self.folder, part)

    @property
    def identity(self) -> str:
        """Return the hash of the files and of the data they belong to."""
        return _identity(self._described)

    @staticmethod
    def identity_of(folder: Path) -> str:
        """Return the hash that the teacher in a folder will have, without reading its outputs.

        Raises:
            InputError: there is no description, or it is wrong.
        """
        return _identity(_read_description(folder))

    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
    ) -> Answer:
        """Return the rows of these samples."""
        self._refuse_taps(taps)
        if sample_ids is None:
            raise InputError(f"the teacher {self.name} is stored: it answers samples of its own data only")
        ids = sample_ids.cpu().numpy()
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self._rows):
            raise InputError(f"sample ids go from 0 to {len(self._rows) - 1}, not from {ids.min()} to {ids.max()}")
        chosen = {name: rows[self._rows[ids]] for name, rows in self._outputs.items()}
        return Answer(on_device_of(inputs, named_tensors(chosen, len(ids), f"the teacher {self.name}")))


def _identity(described: StoredDescription) -> str:
    return digest(["stored", described.files, described.data])


def store_outputs(
    folder: Path, outputs: Mapping[str, NDArray[Any]], *, name: str, licence: str, source: str, data: str
) -> None:
    """Write outputs as a folder that `StoredTeacher` reads.

    Args:
        folder: it appears whole or not at all.
        outputs: arrays (samples, ...) in the data set's order, the main one first; names are file names.
        name: of the teacher.
        licence: of its answers, an SPDX identifier.
        source: where they come from.
        data: hash of the data set, `Dataset.digest()`.

    Raises:
        InputError: an output's name is no plain file name, or it holds something else than numbers.
    """
    strange = [output for output in outputs if Path(output).name != output or not output.isprintable()]
    if strange:
        raise InputError(f"{', '.join(strange)}: the names of outputs are file names, without / and the like")
    objects = [output for output, array in outputs.items() if np.asarray(array).dtype.kind not in "fiub"]
    if objects:
        raise InputError(f"{', '.join(objects)}: arrays of numbers are stored, not of objects or texts")
    with folder_in_one_step(folder) as partial:
        lines = [f"{key} = {_quoted(value)}" for key, value in
                 {"name": name, "licence": licence, "source": source, "data": data}.items()]  # fmt: skip
        lines += ["", "[files]"]
        for output, array in outputs.items():
            path = partial / f"{output}.npy"
            np.save(path, array, allow_pickle=False)
            lines.append(f"{_quoted(path.name)} = {_quoted(sha256(path))}")
        (partial / DESCRIPTION).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(text: str) -> str:
    """Return a text as TOML writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in escaped) + '"'


def _read_description(folder: Path) -> StoredDescription:
    path = folder / DESCRIPTION
    try:
        return StoredDescription.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {DESCRIPTION}; it names the teacher, licence, source, the data's hash and the files"
        ) from error
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _read_outputs(folder: Path, files: Mapping[str, str]) -> dict[str, NDArray[Any] | Tensor]:
    outputs: dict[str, NDArray[Any] | Tensor] = {}
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise InputError(f"{folder / DESCRIPTION} names {name}, which is no file beside it")
        if sha256(path) != expected:
            raise InputError(f"{path} was changed: its hash is not the one in {DESCRIPTION}")
        for output, rows in _read_file(path).items():
            if output in outputs:
                raise InputError(f"{folder}: two files hold an output {output}")
            if rows.ndim < 1:
                raise InputError(f"{path}: {output} is a single value; store one row a sample")
            outputs[output] = rows
    return outputs


def _read_file(path: Path) -> Mapping[str, NDArray[Any] | Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
    except (SafetensorError, OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path} (pickled objects are refused): {error}") from error
    if path.suffix != ".npz":
        raise InputError(f"{path}: stored outputs are .npy, .npz or .safetensors files")
    with device_errors_as(InputError):
        return read_arrays(path)
