"""Shards: the rows that one teacher answered, together in memory or in a folder of checked files."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import StageError
from edgekd.files import folder_in_one_step, sha256
from edgekd.teachers.forms import Parts
from edgekd.teachers.keys import Keys

DESCRIPTION = "shard.json"


class Shard(Protocol):
    """Rows of answers by their keys."""

    @property
    def keys(self) -> Keys:
        """Return the key of every row, (R,)."""

    @property
    def fields(self) -> Sequence[str]:
        """Return the names of what is stored of every row."""

    def parts(self, name: str) -> Parts:
        """Return the parts of a field."""


@dataclass(frozen=True)
class Rows:
    """Rows in memory, not yet written."""

    keys: Keys
    content: Mapping[str, Parts]

    @property
    def fields(self) -> Sequence[str]:
        """Return the names of what is stored of every row."""
        return tuple(self.content)

    def parts(self, name: str) -> Parts:
        """Return the parts of a field."""
        return self.content[name]

    @property
    def nbytes(self) -> int:
        """Return how much they are."""
        return sum(part.nbytes for parts in self.content.values() for part in parts.values())


@dataclass(frozen=True)
class StoredShard:
    """Rows in a folder: `shard.json` with what they are and the hashes of the files, which are memory-mapped.

    A file is checked against its hash when it is first read.
    """

    folder: Path
    keys: Keys
    _files: Mapping[str, Mapping[str, tuple[str, str]]]  # field, part: file name and hash
    _read: dict[str, Parts] = field(default_factory=dict)

    @property
    def fields(self) -> Sequence[str]:
        """Return the names of what is stored of every row."""
        return tuple(self._files)

    def parts(self, name: str) -> Parts:
        """Return the parts of a field.

        Raises:
            StageError: a file is missing or was changed.
        """
        if name not in self._read:
            self._read[name] = {
                part: _checked(self.folder / file, expected) for part, (file, expected) in self._files[name].items()
            }
        return self._read[name]

    @classmethod
    def load(cls, folder: Path, origin: str) -> "StoredShard":
        """Open a shard of a cache; `origin` is the hash of the cache's teacher and preprocessing.

        Raises:
            StageError: its description or keys are damaged, or it belongs to another cache.
        """
        path = folder / DESCRIPTION
        try:
            text = path.read_bytes()
            if hashlib.sha256(text).hexdigest()[:16] != folder.name.rpartition("-")[2]:
                raise _damaged(path, "was changed")
            content = json.loads(text)
            files = {name: {part: (str(file), str(sha)) for part, (file, sha) in parts.items()}
                     for name, parts in content["fields"].items()}  # fmt: skip
            file, expected = content["keys"]
            stored_origin = content["origin"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, f"cannot be read ({type(error).__name__}: {error})") from error
        if stored_origin != origin:
            raise _damaged(path, "holds answers of another teacher or preprocessing")
        return cls(folder, _checked(folder / file, expected), files)


def write_shard(directory: Path, number: int, rows: Sequence[Rows], about: Mapping[str, Any]) -> StoredShard:
    """Write rows of the same fields as one shard; it appears whole or not at all.

    Args:
        directory: of the cache.
        number: how many shards came before; they are read in this order.
        rows: at least one, joined in this order.
        about: further content of `shard.json`: origin, licence, source and the like.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {"keys.npy": np.concatenate([one.keys for one in rows])}
    fields: dict[str, dict[str, str]] = {}
    for name in rows[0].fields:
        fields[name] = {}
        for part in rows[0].parts(name):
            fields[name][part] = file = f"{len(arrays)}.npy"
            arrays[file] = np.concatenate([one.parts(name)[part] for one in rows])
    encoded = {file: _npy(array) for file, array in arrays.items()}
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in encoded.items()}
    content = {
        "schema": 1,
        **about,
        "rows": len(arrays["keys.npy"]),
        "keys": ("keys.npy", hashes["keys.npy"]),
        "fields": {
            name: {part: (file, hashes[file]) for part, file in parts.items()} for name, parts in fields.items()
        },
    }
    text = json.dumps(content, indent=1).encode()
    folder = directory / f"shard-{number:06d}-{hashlib.sha256(text).hexdigest()[:16]}"
    with folder_in_one_step(folder) as partial:
        for file, bytes_ in encoded.items():
            (partial / file).write_bytes(bytes_)
        (partial / DESCRIPTION).write_bytes(text)
    return StoredShard.load(folder, about["origin"])


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _checked(path: Path, expected: str) -> NDArray[Any]:
    """Return an array mapped into memory, after its file has the hash that was written down."""
    try:
        if sha256(path) != expected:
            raise _damaged(path, "was changed")
        array = np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, f"cannot be read ({type(error).__name__}: {error})") from error
    return np.asarray(array)  # a plain array: gathering from numpy.memmap itself is slower


def _damaged(path: Path, what: str) -> StageError:
    return StageError(
        f"{path} {what}; its answers are not used: delete {path.parent} to have the teacher asked again, or open the "
        "cache in Python with refill=True"
    )
