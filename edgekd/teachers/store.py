"""The teacher cache: answers on disk, found by their content, read as whole batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.errors import InputError, StageError
from edgekd.files import remove_partial, write_json
from edgekd.teachers.forms import Form, Full, Parts
from edgekd.teachers.keys import Keys, as_keys, entry_keys, find, hexadecimal
from edgekd.teachers.manifest import (
    FEATURE,
    MANIFEST,
    OUTPUT,
    Forms,
    Manifest,
    check_owner,
    locked,
    make_manifest,
    origin_of,
    read_manifest,
)
from edgekd.teachers.shard import Rows, Shard, StoredShard, write_shard
from edgekd.teachers.teacher import Teacher

SHARD_ROWS = 8192
SHARD_BYTES = 128 * 2**20
_ROW_BITS = 32  # a location is the shard's number, then the row's
Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Waiting:
    """Rows that are not yet written: their shard's number, and the samples and augmentation that they belong to."""

    number: int
    rows: Rows
    variant: int
    samples: NDArray[np.intp]


class TeacherCache:
    """A directory with the answers of one teacher to samples prepared in one way.

    `manifest.json` says whose answers they are and in what form; every `shard-*` folder holds some thousand rows in
    memory-mapped files that are checked against their hashes when first read. Rows are written in blocks: a kill loses
    what was answered since the last one. Several processes may fill a cache together. Samples are known by their position
    in `samples`, the sample id; samples of equal content have one answer. `variant` is the number of a fixed
    augmentation, 0 none: each has answers of its own.
    """

    def __init__(self, folder: Path, samples: Keys, manifest: Manifest, forms: Forms) -> None:
        """Take a cache into use; `open` makes or checks one."""
        self.folder, self.manifest, self._forms = folder, manifest, forms
        self._samples, self._positions = np.unique(samples, return_inverse=True)
        self._shards: dict[int, Shard] = {}
        self._opened: set[str] = set()  # the folders among them
        self._next = 0
        self._waiting: list[_Waiting] = []
        self._keys: dict[int, Keys] = {}
        self._locations: dict[tuple[int, str], NDArray[np.int64]] = {}
        self._dropped: dict[int, NDArray[np.bool_]] = {}
        self.refresh()

    @classmethod
    def open(
        cls,
        folder: Path,
        samples: Keys,
        *,
        preprocessing: str,
        teacher: Teacher | None = None,
        data: str = "not stated",
        outputs: Form | None = None,
        features: Form | None = None,
        forms: Mapping[str, Form] | None = None,
        refill: bool = False,
    ) -> "TeacherCache":
        """Make or open a cache.

        Args:
            folder: of the cache.
            samples: hash of every sample's content, by sample id; see `sample_digests`.
            preprocessing: hash of what is done to a sample; see `preprocessing_digest`.
            teacher: whose answers are stored. None: those of a cache that exists, whoever gave them.
            data: hash of the data set, for the record.
            outputs: the form of outputs, where these are floats; not set: full.
            features: the form of features, where these are floats; not set: full.
            forms: the forms of single outputs and taps by name, where they differ.
            refill: read all files now and remove damaged shards, so that the teacher is asked again.

        Raises:
            InputError: the folder holds something else, or answers of another teacher, preprocessing or form.
            StageError: what is stored is damaged, and `refill` is not set.
        """
        asked = Forms(outputs or Full(), features or Full(), dict(forms or {}))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                remove_partial(folder)
                if not (folder / MANIFEST).exists():
                    make_manifest(folder, teacher, preprocessing, asked)
                manifest = read_manifest(folder)
                check_owner(folder, manifest, teacher, preprocessing, asked)
                if data not in manifest["data"]:
                    manifest["data"].append(data)
                    write_json(folder / MANIFEST, manifest)
                if refill:
                    _remove_damaged(folder, origin_of(manifest))
        except OSError as error:
            raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
        return cls(folder, samples, manifest, asked)

    @classmethod
    def of(cls, folder: Path, samples: Keys, *, teacher: Teacher | None = None) -> "TeacherCache":
        """Open a cache that exists, in its own forms and for its own preprocessing.

        Raises:
            InputError: there is none, or it holds answers of another teacher.
            StageError: what is stored is damaged.
        """
        if not (folder / MANIFEST).is_file():
            raise InputError(f"there is no teacher cache in {folder}")
        manifest = read_manifest(folder)
        forms = Forms.read(manifest["forms"])
        check_owner(folder, manifest, teacher, manifest["preprocessing"], forms)
        return cls(folder, samples, manifest, forms)

    def for_samples(self, samples: Keys) -> "TeacherCache":
        """Return the cache with other samples (their hashes by sample id), after writing what is not yet written."""
        self.flush()
        return TeacherCache(self.folder, samples, read_manifest(self.folder), self._forms)

    def __enter__(self) -> "TeacherCache":
        """Return the cache itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is not yet written."""
        self.flush()

    def __len__(self) -> int:
        """Return the number of samples, answered or not."""
        return len(self._positions)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the teacher's outputs, the main one first; none before its first answer."""
        return tuple(name.removeprefix(OUTPUT) for name in self.manifest["fields"] if name.startswith(OUTPUT))

    @property
    def features(self) -> tuple[str, ...]:
        """Return the taps whose features are stored."""
        return tuple(name.removeprefix(FEATURE) for name in self.manifest["fields"] if name.startswith(FEATURE))

    def size(self) -> int:
        """Return the bytes of all shards on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("shard-*/*"))

    def missing(self, ids: Ids, fields: Sequence[str], variant: int = 0) -> NDArray[np.bool_]:
        """Return which of these samples lack one of these fields, (N,).

        Raises:
            InputError: there is no sample of such an id.
        """
        chosen = self._chosen(ids)
        lacking = np.zeros(len(chosen), np.bool_)
        for name in fields:
            lacking |= self._location(variant, name)[chosen] < 0
        return lacking

    def read(self, ids: Ids, fields: Sequence[str], variant: int = 0) -> dict[str, Tensor]:
        """Return these fields of these samples; rows that a check dropped are zeros.

        Raises:
            InputError: a sample lacks one of them.
            StageError: a file that they lie in was changed.
        """
        chosen = self._chosen(ids)
        dropped = torch.from_numpy(self._dropped_of(variant)[chosen])
        made = {}
        for name in fields:
            locations = self._location(variant, name)[chosen]
            if (locations < 0).any():
                raise InputError(f"{self.folder} lacks {name} of {(locations < 0).sum()} of {len(chosen)} samples")
            dtype: torch.dtype = getattr(torch, self.manifest["fields"][name]["dtype"])
            made[name] = torch.from_numpy(self._gather(name, locations)).to(dtype)
            if dropped.any():
                made[name][dropped] = 0
        return made

    def put(self, ids: Ids, tensors: Mapping[str, Tensor], variant: int = 0) -> None:
        """Store rows of these samples, (N, ...) by field; what is stored already stays as it is.

        Raises:
            InputError: they do not go into their form, or the teacher answered in another shape before.
            StageError: they cannot be written.
        """
        chosen, first = np.unique(self._chosen(ids), return_index=True)
        new = {name: rows for name, rows in tensors.items() if (self._location(variant, name)[chosen] < 0).any()}
        if not new:
            return
        self._declare(new)
        content = {name: self._encoded(name, rows, first) for name, rows in new.items()}
        rows = Rows(self._keys_of(variant)[chosen], content)
        waiting = _Waiting(self._add(rows), rows, variant, chosen)
        self._waiting.append(waiting)
        self._locate(waiting, waiting.number, 0)
        count = sum(len(one.rows.keys) for one in self._waiting)
        if count >= SHARD_ROWS or sum(one.rows.nbytes for one in self._waiting) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is not yet written, a shard for each set of fields.

        Raises:
            StageError: it cannot be written.
        """
        while self._waiting:
            fields = self._waiting[0].rows.fields
            group = [one for one in self._waiting if one.rows.fields == fields]
            try:
                with locked(self.folder):
                    number = 1 + max((int(path.name.split("-")[1]) for path in self.folder.glob("shard-*")), default=-1)
                    shard = write_shard(self.folder, number, [one.rows for one in group], self._provenance())
            except OSError as error:
                raise StageError(f"cannot write to {self.folder}: {error.strerror or error}") from error
            self._opened.add(shard.folder.name)
            self._waiting = [one for one in self._waiting if one.rows.fields != fields]
            number, start = self._add(shard), 0
            for one in group:
                self._locate(one, number, start)
                start += len(one.samples)
                del self._shards[one.number]

    def refresh(self) -> bool:
        """Open the shards that other processes have written meanwhile; return whether there were any.

        Raises:
            StageError: one is damaged.
        """
        new = sorted({path.name for path in self.folder.glob("shard-*")} - self._opened)
        for name in new:
            shard = StoredShard.load(self.folder / name, origin_of(self.manifest))
            self._opened.add(name)
            number = self._add(shard)
            for (variant, field), locations in self._locations.items():
                if field in shard.fields:
                    self._find(locations, number, shard, variant)
        if new:
            self.manifest = read_manifest(self.folder)
            self._dropped.clear()
        return bool(new)

    def kept(self, ids: Ids, variant: int = 0) -> NDArray[np.bool_]:
        """Return which of these samples' answers no check has dropped, (N,)."""
        return ~self._dropped_of(variant)[self._chosen(ids)]

    def drop(self, ids: Ids, check: Mapping[str, Any], variant: int = 0) -> None:
        """Mark the answers to these samples as not to be used, and write down the check that they failed."""
        keys = hexadecimal(self._keys_of(variant)[np.unique(self._chosen(ids))])
        with locked(self.folder):
            self.manifest = read_manifest(self.folder)
            self.manifest["dropped"] = sorted({*self.manifest["dropped"], *keys})
            self.manifest["checks"].append(dict(check))
            write_json(self.folder / MANIFEST, self.manifest)
        self._dropped.clear()

    def _chosen(self, ids: Ids) -> NDArray[np.intp]:
        """Return where these samples stand among those of different content."""
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self):
            raise InputError(f"sample ids go from 0 to {len(self) - 1}, not from {ids.min()} to {ids.max()}")
        return self._positions[ids]

    def _keys_of(self, variant: int) -> Keys:
        if variant not in self._keys:
            teacher, preprocessing = self.manifest["teacher"]["identity"], self.manifest["preprocessing"]
            self._keys[variant] = entry_keys(teacher, preprocessing, self._samples, variant)
        return self._keys[variant]

    def _dropped_of(self, variant: int) -> NDArray[np.bool_]:
        if variant not in self._dropped:
            dropped = as_keys([bytes.fromhex(key) for key in self.manifest["dropped"]])
            self._dropped[variant] = find(dropped, self._keys_of(variant)) >= 0
        return self._dropped[variant]

    def _location(self, variant: int, name: str) -> NDArray[np.int64]:
        """Return where a field of every sample lies, -1 where it does not."""
        if (variant, name) not in self._locations:
            self._locations[variant, name] = locations = np.full(len(self._samples), -1, np.int64)
            for number, shard in self._shards.items():
                if name in shard.fields:
                    self._find(locations, number, shard, variant)
        return self._locations[variant, name]

    def _add(self, shard: Shard) -> int:
        self._next += 1
        self._shards[self._next] = shard
        return self._next

    def _find(self, locations: NDArray[np.int64], number: int, shard: Shard, variant: int) -> None:
        """Locate the rows of a shard; what has been located before stays, so that answers do not change."""
        rows = find(shard.keys, self._keys_of(variant))
        new = (locations < 0) & (rows >= 0)
        locations[new] = (number << _ROW_BITS) + rows[new]

    def _locate(self, waiting: _Waiting, number: int, start: int) -> None:
        """Locate rows in the shard of that number, from row `start` on; what lies elsewhere stays."""
        places = (number << _ROW_BITS) + np.arange(start, start + len(waiting.samples))
        for name in waiting.rows.fields:
            locations = self._location(waiting.variant, name)
            current = locations[waiting.samples]
            here = (current < 0) | (current >> _ROW_BITS == waiting.number)
            locations[waiting.samples[here]] = places[here]

    def _gather(self, name: str, locations: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows at these locations, shard by shard."""
        field = self.manifest["fields"][name]
        form, shape = self._forms.of(name, field["dtype"]), tuple(field["shape"])
        shards, rows = locations >> _ROW_BITS, locations & ((1 << _ROW_BITS) - 1)
        numbers = np.unique(shards).tolist()
        if len(numbers) == 1:
            return form.decode(self._shards[numbers[0]].parts(name), rows, shape)
        places = [np.flatnonzero(shards == number) for number in numbers]
        decoded = [
            form.decode(self._shards[number].parts(name), rows[place], shape)
            for number, place in zip(numbers, places, strict=True)
        ]
        sizes = [part.shape[1:] for part in decoded]
        joined = np.zeros((len(locations), *max(sizes, default=shape)), decoded[0].dtype if decoded else np.float32)
        for place, part in zip(places, decoded, strict=True):
            if part.shape[1:] == joined.shape[1:]:
                joined[place] = part
            else:  # texts of other lengths
                joined[place, : part.shape[1]] = part
        return joined

    def _encoded(self, name: str, rows: Tensor, chosen: NDArray[np.intp]) -> Parts:
        """Return what is stored of the chosen rows."""
        form = self._forms.of(name, self.manifest["fields"][name]["dtype"])
        try:
            return form.encode(_array(rows)[chosen])
        except InputError as error:
            raise InputError(f"{name} of {self.manifest['teacher']['name']}: {error}") from error

    def _declare(self, tensors: Mapping[str, Tensor]) -> None:
        """Write down dtype and shape of new fields, and check those of known ones."""
        described = {}
        for name, rows in tensors.items():
            dtype = str(rows.dtype).removeprefix("torch.")
            shape = [] if self._forms.of(name, dtype).kind == "text" else list(rows.shape[1:])
            described[name] = {"dtype": dtype, "shape": shape}
        if any(self.manifest["fields"].get(name) != field for name, field in described.items()):
            with locked(self.folder):
                self.manifest = read_manifest(self.folder)
                for name, field in described.items():
                    known = self.manifest["fields"].setdefault(name, field)
                    if known != field:
                        raise InputError(
                            f"the teacher answers {name} as {field['dtype']} {field['shape']}, and the cache in "
                            f"{self.folder} holds it as {known['dtype']} {known['shape']}; a teacher answers all samples "
                            "in one shape (fill texts up to one length), in one precision"
                        )
                write_json(self.folder / MANIFEST, self.manifest)

    def _provenance(self) -> dict[str, Any]:
        """Return what every shard says about its entries."""
        return {
            "origin": origin_of(self.manifest),
            "teacher": self.manifest["teacher"],
            "preprocessing": self.manifest["preprocessing"],
            "data": self.manifest["data"][-1],
        }


def _remove_damaged(folder: Path, origin: str) -> None:
    for path in sorted(folder.glob("shard-*")):
        try:
            shard = StoredShard.load(path, origin)
            for name in shard.fields:
                shard.parts(name)
        except StageError:
            rmtree(path)


def _array(rows: Tensor) -> NDArray[Any]:
    """Return rows as an array; numpy has no bfloat16, so these become float32, which holds them exactly."""
    rows = rows.detach().cpu()
    return (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
