"""Answers worked out ahead, and not used when they are too old.

Source: SOLARIS, which computes a large model's answers for likely requests in advance; the staleness limit and its figures
are an edgekd variant.
"""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgekd.data import Part
from edgekd.errors import InputError, StageError
from edgekd.losses.step import Answer
from edgekd.teachers.teacher import Teacher, on_device_of

Load = Callable[[Tensor], Mapping[str, Tensor]]  # sample ids (N,): their inputs


@dataclass(frozen=True)
class Staleness:
    """How old the answers were that were served ahead of time, in seconds, and how often there was one.

    `hit_rate` is the share of samples that were served ahead, `stale` the number that were thrown away as too old or of
    another teacher. Without a hit the ages are 0.
    """

    mean_age: float
    max_age: float
    hit_rate: float
    stale: int


@dataclass(frozen=True)
class _Entry:
    made: float
    identity: str
    answer: Answer  # one row


class PrefetchedTeacher(Teacher):
    """A teacher that is asked in the background for samples that will likely come.

    An answer that is older than `max_age_s`, or was made by a teacher of another identity (one that is still learning),
    is stale and made again. With `expect`, whoever knows the next batches says so; what is not expected is answered live.
    """

    def __init__(
        self,
        teacher: Teacher,
        load: Load,
        *,
        max_age_s: float,
        capacity: int = 8192,
        taps: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the background thread.

        Args:
            teacher: who is asked; never by two threads at once, and in the background outside the caller's autocast.
            load: returns the inputs of samples, as `answer` gets them.
            max_age_s: how old an answer may be, at least 0.
            capacity: samples kept; the oldest make room.
            taps: module paths whose features are answered ahead too.
            clock: seconds.

        Raises:
            InputError: the age is no number from 0.
        """
        if not max_age_s >= 0:
            raise InputError(f"max_age_s is {max_age_s}; give a number of seconds from 0")
        self.teacher, self._load, self._taps, self._clock = teacher, load, taps, clock
        self.name, self.licence, self.source, self.inputs = (
            teacher.name,
            teacher.licence,
            teacher.source,
            teacher.inputs,
        )
        self._max_age, self._capacity = max_age_s, capacity
        self._asking, self._looking = threading.Lock(), threading.Lock()
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._asked = self._hits = self._stale = 0
        self._total_age = self._max_served = 0.0
        self._error: Exception | None = None
        self._closing = False
        self._expected: queue.Queue[Tensor | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def __enter__(self) -> "PrefetchedTeacher":
        """Return the teacher itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the background thread."""
        self.close()

    @property
    def identity(self) -> str:
        """Return the identity of the teacher behind."""
        return self.teacher.identity

    @property
    def live_features(self) -> bool:
        """Return whether the teacher behind has features."""
        return self.teacher.live_features

    def expect(self, sample_ids: Tensor) -> None:
        """Have these samples (N,) answered ahead, as one batch."""
        self._expected.put(sample_ids.detach().cpu().clone())

    def wait(self) -> None:
        """Wait until everything expected is answered.

        Raises:
            StageError: the teacher failed in the background.
        """
        self._expected.join()
        self._raise()

    def close(self) -> None:
        """Stop the background thread; a batch in work is finished, others are given up."""
        self._closing = True
        self._expected.put(None)
        self._thread.join()

    def staleness(self) -> Staleness:
        """Return how old the answers served so far were."""
        mean_age = self._total_age / max(self._hits, 1)
        return Staleness(mean_age, self._max_served, self._hits / max(self._asked, 1), self._stale)

    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
    ) -> Answer:
        """Return fresh answers made ahead, and live ones for the other samples.

        Raises:
            StageError: the teacher failed in the background.
        """
        self._raise()
        if sample_ids is None or not set(taps) <= set(self._taps):
            with self._asking:
                return self.teacher.answer(inputs, sample_ids=sample_ids, taps=taps, outputs_wanted=outputs_wanted)
        ids = sample_ids.tolist()
        found, made = self._fresh(ids), dict[int, Answer]()
        if len(found) < len(set(ids)):
            with self._asking:  # waits for a batch in work, which may hold what is missing
                found = self._fresh(ids)
                rows = [row for row, one in enumerate(ids) if one not in found]
                if rows:
                    chosen = torch.tensor(rows, device=sample_ids.device)
                    live = self.teacher.answer(
                        {name: tensor[chosen] for name, tensor in inputs.items()},
                        sample_ids=sample_ids[chosen],
                        taps=self._taps,
                    )
                    made = {ids[row]: _row(live, place) for place, row in enumerate(rows)}
        self._count(ids, found)
        joined = [found[one].answer if one in found else made[one] for one in ids]
        return Answer(
            on_device_of(inputs, _stack([one.outputs for one in joined])) if outputs_wanted else {},
            on_device_of(inputs, _stack([{tap: one.features[tap] for tap in taps} for one in joined])),
        )

    def for_part(self, part: Part) -> "PrefetchedTeacher":
        """Return itself, where `load` gives the inputs of this part's samples.

        Raises:
            InputError: it gives others.
        """
        ids = torch.arange(min(len(part), 4))
        arrays = {**part.extras(ids.numpy()), **part.inputs(ids.numpy())}
        for name, given in self._load(ids).items():
            if name not in arrays or not np.array_equal(given.cpu().numpy(), arrays[name]):
                raise InputError(
                    f"the teacher {self.name} is answered ahead for other samples than those that are trained on: "
                    f"load(ids) gives another {name} for the samples 0 to {len(ids) - 1} of the train part"
                )
        return self

    def kept(self, sample_ids: Tensor) -> Tensor | None:
        """Return which samples' answers may be used, as the teacher behind says."""
        return self.teacher.kept(sample_ids)

    def _fresh(self, ids: Sequence[int]) -> dict[int, _Entry]:
        """Return the answers at hand that are not stale; throw the stale ones away."""
        now, identity = self._clock(), self.teacher.identity
        found = {}
        with self._looking:
            for one in dict.fromkeys(ids):
                entry = self._entries.get(one)
                if entry is None:
                    continue
                if now - entry.made > self._max_age or entry.identity != identity:
                    del self._entries[one]
                    self._stale += 1
                else:
                    found[one] = entry
        return found

    def _count(self, ids: Sequence[int], found: Mapping[int, _Entry]) -> None:
        now = self._clock()
        ages = [now - found[one].made for one in ids if one in found]
        self._asked, self._hits = self._asked + len(ids), self._hits + len(ages)
        self._total_age, self._max_served = self._total_age + sum(ages), max(self._max_served, *ages, 0.0)

    def _work(self) -> None:
        while (ids := self._expected.get()) is not None:
            try:
                if not self._closing:
                    self._ahead(ids)
            except Exception as error:  # shown where the answer is asked for
                self._error = error
            finally:
                self._expected.task_done()
        self._expected.task_done()

    def _ahead(self, ids: Tensor) -> None:
        fresh = self._fresh(ids.tolist())
        ids = torch.tensor([one for one in ids.tolist() if one not in fresh], dtype=ids.dtype)
        if not len(ids):
            return
        inputs = self._load(ids)
        with self._asking, torch.no_grad():
            made, identity = self._clock(), self.teacher.identity
            answer = self.teacher.answer(inputs, sample_ids=ids, taps=self._taps)
        with self._looking:
            for row, one in enumerate(ids.tolist()):
                self._entries[one] = _Entry(made, identity, _row(answer, row))
                self._entries.move_to_end(one)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise StageError(f"the teacher {self.name} fails in the background: {error}") from error


def _row(answer: Answer, row: int) -> Answer:
    return Answer(
        {name: rows[row] for name, rows in answer.outputs.items()},
        {tap: rows[row] for tap, rows in answer.features.items()},
    )


def _stack(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in rows]) for name in rows[0]} if rows else {}
