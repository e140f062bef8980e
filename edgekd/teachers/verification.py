"""Answers that fail a check are not learned from.

Source: the check by execution of teacher-written programs, CodePercept; as a hook for any check it is an edgekd variant.
"""

import inspect
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekd.code import code_digest
from edgekd.errors import InputError
from edgekd.losses.step import Answer
from edgekd.teachers.cached import CachedTeacher
from edgekd.teachers.manifest import FEATURE, OUTPUT

Check = Callable[[NDArray[np.int64], Answer], Any]  # sample ids and their answer: a boolean (N,), true what passes


def passed(check: Check, sample_ids: NDArray[np.int64], answer: Answer) -> NDArray[np.bool_]:
    """Return which rows of an answer pass a check, (N,).

    Raises:
        InputError: the check fails itself, or gives something else than a boolean a row.
    """
    name = _name(check)
    try:
        mask = np.asarray(check(sample_ids, answer))
    except Exception as error:  # the user's function may raise anything
        raise InputError(f"the check {name} fails: {type(error).__name__}: {error}") from error
    if mask.dtype != np.bool_ or mask.shape != sample_ids.shape:
        raise InputError(
            f"the check {name} gives {mask.dtype} {mask.shape} for {len(sample_ids)} answers; a boolean each is needed"
        )
    return mask


def verify(teacher: CachedTeacher, check: Check, *, variant: int = 0, batch: int = 256) -> NDArray[np.bool_]:
    """Drop every stored answer that fails a check; return which samples are kept, (samples,).

    Kept are stored answers that passed this check and all earlier ones, and samples without an answer yet, which are not
    looked at. The cache's manifest keeps the check's name, the hash of its source and what was dropped; dropped rows are
    zeros from now on, and `CachedTeacher.kept` tells them.

    Args:
        teacher: whose stored answers are checked.
        check: gets sample ids (N,) and their answer, with what is stored of outputs and features; for programs or texts
            see `texts_of`.
        variant: number of the fixed augmentation.
        batch: how many answers it gets at a time.

    Raises:
        InputError: the check fails itself, or gives something else than a boolean a row.
    """
    cache = teacher.cache
    outputs = [OUTPUT + name for name in cache.outputs]
    ids = np.arange(len(cache))
    stored = ids[~cache.missing(ids, outputs, variant) & cache.kept(ids, variant)] if outputs else ids[:0]
    taps = [tap for tap in cache.features if not cache.missing(stored, [FEATURE + tap], variant).any()]
    failed = []
    for start in range(0, len(stored), batch):
        some = stored[start : start + batch]
        read = cache.read(some, [*outputs, *(FEATURE + tap for tap in taps)], variant)
        answer = Answer(
            {name: read[OUTPUT + name] for name in cache.outputs}, {tap: read[FEATURE + tap] for tap in taps}
        )
        failed.append(some[~passed(check, some, answer)])
    dropped = np.concatenate([ids[:0], *failed])
    record = {
        "check": _name(check),
        "code": code_digest(check if inspect.isroutine(check) else type(check)),
        "variant": variant,
        "checked": len(stored),
        "dropped": len(dropped),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    cache.drop(dropped, record, variant)
    return cache.kept(ids, variant)


def finite(sample_ids: NDArray[np.int64], answer: Answer) -> NDArray[np.bool_]:
    """Return which rows hold finite numbers only, a check for `verify`."""
    kept = np.ones(len(sample_ids), np.bool_)
    for rows in (*answer.outputs.values(), *answer.features.values()):
        kept &= torch.isfinite(rows.reshape(len(rows), -1)).all(1).numpy()
    return kept


def _name(check: Check) -> str:
    return str(getattr(check, "__name__", type(check).__name__))
