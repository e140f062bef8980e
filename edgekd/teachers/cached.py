"""A teacher whose answers are kept: it is asked once a sample."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.files import digest
from edgekd.losses.step import Answer
from edgekd.teachers.forms import Form
from edgekd.teachers.keys import preprocessing_digest, sample_digests
from edgekd.teachers.manifest import FEATURE, OUTPUT
from edgekd.teachers.store import Ids, TeacherCache
from edgekd.teachers.teacher import Teacher, on_device_of


class CachedTeacher(Teacher):
    """A cache in front of a teacher, or alone where it is complete.

    The teacher is asked for what the cache lacks only, and its answer is stored. What is returned is always what is
    stored, at the first time too: in the form full bit for bit what the teacher computed for the batch that it was asked,
    in other forms within their bounds; so a run that goes on after a kill sees the same answers. Stored answers belong to
    inputs without random augmentation: a sample may be changed in a fixed number of ways, each with its `variant`.
    """

    def __init__(self, cache: TeacherCache, live: Teacher | None = None) -> None:
        """Put a cache in front of the teacher that it was opened for.

        Raises:
            InputError: the cache holds answers of another teacher.
        """
        kept = cache.manifest["teacher"]
        if live is not None and live.identity != kept["identity"]:
            raise InputError(f"the cache in {cache.folder} holds answers of another teacher ({kept['name']})")
        self.cache, self.live = cache, live
        self.name, self.licence, self.source = kept["name"], kept["licence"], kept["source"]
        self.inputs = None if live is None else live.inputs

    @classmethod
    def open(
        cls,
        folder: Path,
        part: Part,
        live: Teacher,
        *,
        outputs: Form | None = None,
        features: Form | None = None,
        forms: Mapping[str, Form] | None = None,
        refill: bool = False,
        **further: Any,
    ) -> "CachedTeacher":
        """Make or open the cache of a teacher's answers to a part.

        `outputs`, `features`, `forms` and `refill` are those of `TeacherCache.open`; `further` is anything else that
        decides what the teacher sees, as JSON: how the fixed augmentations are made, the precision.

        Raises:
            InputError: the folder holds something else, or other answers.
            StageError: what is stored is damaged.
        """
        cache = TeacherCache.open(
            folder,
            sample_digests(part, live.inputs),
            preprocessing=preprocessing_digest(part.signature, **further),
            teacher=live,
            data=part.dataset.digest(),
            outputs=outputs,
            features=features,
            forms=forms,
            refill=refill,
        )
        return cls(cache, live)

    @classmethod
    def of(cls, folder: Path, part: Part, live: Teacher | None = None) -> "CachedTeacher":
        """Open a cache that exists, e.g. that of a run, in the forms and for the preprocessing that it was made with.

        Raises:
            InputError: there is none, or it holds answers of another teacher than `live`.
            StageError: what is stored is damaged.
        """
        cache = TeacherCache.of(folder, sample_digests(part, None if live is None else live.inputs), teacher=live)
        return cls(cache, live)

    def for_part(self, part: Part) -> "CachedTeacher":
        """Return the teacher with the stored answers found for this part's samples, by their content."""
        live = None if self.live is None else self.live.for_part(part)
        return CachedTeacher(self.cache.for_samples(sample_digests(part, self.inputs)), live)

    @property
    def identity(self) -> str:
        """Return the identity of the teacher behind."""
        return str(self.cache.manifest["teacher"]["identity"])

    @property
    def content(self) -> str:
        """Return the hash of the teacher, the form of its answers, and which of them were dropped."""
        manifest = self.cache.manifest
        return digest([self.identity, manifest["forms"], manifest["dropped"]])

    @property
    def live_features(self) -> bool:
        """Return whether there are features: stored ones, or those of the teacher behind."""
        return bool(self.cache.features) if self.live is None else self.live.live_features

    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
        variant: int = 0,
    ) -> Answer:
        """Return stored answers, asking the teacher for those that are missing.

        Args:
            inputs: the batch; not looked at where everything is stored.
            sample_ids: positions in the cache's samples; None: the teacher is asked, and nothing is stored.
            taps: module paths whose features are wanted.
            outputs_wanted: whether outputs are.
            variant: the number of the fixed augmentation that the inputs went through, 0 for none.

        Raises:
            InputError: something is missing and there is no teacher to ask.
            StageError: what is stored is damaged.
        """
        if sample_ids is None:
            return self._teacher("samples of other data").answer(
                inputs, sample_ids=None, taps=taps, outputs_wanted=outputs_wanted
            )
        ids = sample_ids.cpu().numpy()
        if self._missing(ids, taps, outputs_wanted, variant).any():
            self.cache.refresh()  # another process may have it
            missing = self._missing(ids, taps, outputs_wanted, variant)
            if missing.any():
                self._ask(inputs, sample_ids, missing, taps, outputs_wanted, variant)
        outputs = self.cache.outputs if outputs_wanted else ()
        fields = [*(OUTPUT + name for name in outputs), *(FEATURE + tap for tap in taps)]
        read = on_device_of(inputs, self.cache.read(ids, fields, variant))
        return Answer({name: read[OUTPUT + name] for name in outputs}, {tap: read[FEATURE + tap] for tap in taps})

    def kept(self, sample_ids: Tensor, variant: int = 0) -> Tensor | None:
        """Return which samples' answers passed all checks, (N,), or None where none was dropped."""
        if not self.cache.manifest["dropped"]:
            return None
        return torch.from_numpy(self.cache.kept(sample_ids.cpu().numpy(), variant)).to(sample_ids.device)

    def fill(self, part: Part, batch: int = 128, taps: tuple[str, ...] = ()) -> None:
        """Ask the teacher for every sample of a part that the cache lacks, batch by batch in order, and write all down."""
        for start in range(0, len(part), batch):
            ids = np.arange(start, min(start + batch, len(part)))
            if self._missing(ids, taps, True, 0).any():
                arrays = {**part.extras(ids), **part.inputs(ids)}
                names = self.inputs or [spec.name for spec in part.signature.inputs]
                inputs = {name: torch.from_numpy(arrays[name]) for name in names}
                self.answer(inputs, sample_ids=torch.from_numpy(ids), taps=taps)
        self.cache.flush()

    def _missing(self, ids: Ids, taps: tuple[str, ...], outputs_wanted: bool, variant: int) -> NDArray[np.bool_]:
        outputs = self.cache.outputs
        if outputs_wanted and not outputs:
            return np.ones(len(ids), np.bool_)
        fields = [*(OUTPUT + name for name in outputs if outputs_wanted), *(FEATURE + tap for tap in taps)]
        return self.cache.missing(ids, fields, variant)

    def _ask(
        self,
        inputs: Mapping[str, Tensor],
        sample_ids: Tensor,
        missing: NDArray[np.bool_],
        taps: tuple[str, ...],
        outputs_wanted: bool,
        variant: int,
    ) -> None:
        teacher = self._teacher(f"{missing.sum()} of {len(missing)} samples")
        if not missing.all():
            chosen = torch.from_numpy(np.flatnonzero(missing)).to(sample_ids.device)
            inputs = {name: tensor[chosen] for name, tensor in inputs.items()}
            sample_ids = sample_ids[chosen]
        ids = sample_ids.cpu().numpy()
        taps = tuple(tap for tap in taps if self.cache.missing(ids, [FEATURE + tap], variant).any())
        outputs_wanted = outputs_wanted and bool(self._missing(ids, (), True, variant).any())
        made = teacher.answer(inputs, sample_ids=sample_ids, taps=taps, outputs_wanted=outputs_wanted)
        outputs = {OUTPUT + name: rows for name, rows in made.outputs.items()} if outputs_wanted else {}
        self.cache.put(ids, {**outputs, **{FEATURE + tap: made.features[tap] for tap in taps}}, variant)

    def _teacher(self, lacking: str) -> Teacher:
        if self.live is None:
            raise InputError(
                f"the cache in {self.cache.folder} lacks {lacking}, and there is no teacher to ask; give it"
            )
        return self.live
