import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.teachers.live import LiveTeacher
from edgekd.training.augment import Variants
from edgekd.training.caching import cached
from edgekd.training.fresh import fresh
from edgekd.training.history import History

from .conftest import SETTINGS, phase, weights

Teach = Callable[..., History]
BOTH = phase("kl", "hint", task=0.3)
TWO = SETTINGS.model_copy(update={"epochs": 2})


def live(trained: nn.Module, context: Context, identity: str = "0") -> LiveTeacher:
    return LiveTeacher("big", copy.deepcopy(trained), identity, context.signature)


@pytest.fixture
def student(trained: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    return fresh(trained)


@pytest.mark.parametrize("augmentations", [(), ("horizontal-flip", "shift")])
def test_full_records_give_the_weights_that_the_live_teacher_gives(
    context: Context,
    trained: nn.Module,
    student: nn.Module,
    teach: Teach,
    tmp_path: Path,
    augmentations: tuple[str, ...],
) -> None:
    part = context.parts.train.take(256)
    here, variants = replace(context, teacher_cache=tmp_path), Variants(2, len(part), context.seed)
    given = {"part": part, "settings": TWO, "augmentations": augmentations, "variants": variants}
    direct = copy.deepcopy(student)
    teach(direct, BOTH, teachers={"big": live(trained, context)}, **given)

    def through_cache() -> tuple[torch.Tensor, int]:
        behind, learner = live(trained, context), copy.deepcopy(student)
        teachers = cached({"big": behind}, "full", part, augmentations, variants, "float32", here)  # type: ignore[arg-type]
        teach(learner, BOTH, teachers=teachers, **given)
        return weights(learner), behind.samples

    first, asked = through_cache()
    again, asked_again = through_cache()
    assert torch.equal(first, weights(direct)) and torch.equal(again, first)
    assert asked >= 256 and asked_again <= 4  # the second time only the few that shapes are read off


def test_half_and_top_k_come_close(
    context: Context, trained: nn.Module, student: nn.Module, teach: Teach, tmp_path: Path
) -> None:
    part = context.parts.train.take(256)
    losses = {}
    for form in ("full", "half", "top-k"):
        here, variants = replace(context, teacher_cache=tmp_path / form), Variants(1, len(part), context.seed)
        teachers = cached({"big": live(trained, context)}, form, part, (), variants, "float32", here)  # type: ignore[arg-type]
        losses[form] = teach(copy.deepcopy(student), phase("kl"), part=part, teachers=teachers, variants=variants).loss[
            0
        ]
    assert losses["half"] == pytest.approx(losses["full"], rel=1e-2)
    assert losses["top-k"] == pytest.approx(losses["full"], rel=0.1) and losses["top-k"] != losses["full"]


def test_a_cache_of_another_teacher_or_precision_is_refused(
    context: Context, trained: nn.Module, tmp_path: Path
) -> None:
    part, variants = context.parts.train.take(64), Variants(1, 64, 0)
    here = replace(context, teacher_cache=tmp_path)
    cached({"big": live(trained, context)}, "full", part, (), variants, "float32", here)
    with pytest.raises(InputError, match="another teacher"):
        cached({"big": live(trained, context, "1")}, "full", part, (), variants, "float32", here)
    with pytest.raises(InputError):
        cached({"big": live(trained, context)}, "full", part, (), variants, "bfloat16", here)
