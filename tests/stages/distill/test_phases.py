"""Data of a phase's own, and data of a teacher's own that are not paired with the student's."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.data import Dataset, Part
from edgekd.errors import InputError
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, tensor_spec
from edgekd.stages.distill import STAGE
from edgekd.state import ModelState
from edgekd.teachers.live import LiveTeacher
from edgekd.training.keeper import Keeper

from .networks import CLASSES, N, Net, alive, checked, distilled, random_inputs, start

LABELS = np.arange(N) % CLASSES


def images() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))


def of_images(folder: Path, other: Dataset) -> tuple[ModelState, Context]:
    """Return a student of shifted images and the context of a run in which all other data are `other`."""
    data = Dataset({"x": random_inputs(1, 6, 6)}, targets=LABELS, augmentations=("shift",))
    state, context = start(images(), data, "classification", folder, teachers=alive(images()))
    part = Part(other, np.arange(len(other)), state.signature)
    return state, replace(context, other_part=lambda source, wanted: part, teacher_cache=folder / "kept")


def test_more_data_in_one_phase_beside_a_cache(tmp_path: Path) -> None:
    """The cache and its fixed augmentations are those of the train part alone, which has fewer samples."""
    twice = np.concatenate([random_inputs(1, 6, 6), random_inputs(1, 6, 6, seed=1)])
    state, context = of_images(tmp_path, Dataset({"x": twice}))
    phases = [{"name": "more", "losses": ["kl"], "data": "more.npz"}, {"name": "own", "losses": ["kl"], "task": 1}]
    made = distilled(state, context, phases=phases, teacher_cache="full", cached_variants=2)
    assert made.notes["phases"] == ["more", "own"] and np.isfinite(made.notes["loss"]).all()
    assert list((tmp_path / "kept").glob("teacher-full/shard-*"))


def test_a_phase_is_checked_against_its_own_data(tmp_path: Path) -> None:
    state, context = of_images(tmp_path, Dataset({"x": random_inputs(1, 6, 6)}))
    for wrong, words in (
        ({"losses": ["dkd"]}, "phase a: dkd needs labels"),
        ({"task": 1}, "phase a: nothing is minimized"),
        ({"losses": ["kl"], "gradient_filter": "agreement-mask"}, "phase a: agreement-mask needs groups"),
    ):
        with pytest.raises(InputError, match=words):
            checked(state, context, phases=[{"name": "a", "data": "more.npz", **wrong}])


def unpaired(folder: Path) -> tuple[ModelState, Context]:
    """Return a student of vectors and the context with a teacher of images."""
    teacher = Net("map", 8, seed=1)
    signature = Signature(inputs=(tensor_spec("image", (5, 6, 6), "float32", "test"),))
    signature = learn_outputs(teacher.eval(), signature)
    own = Part(Dataset({"image": random_inputs(5, 6, 6)[:20]}, targets=LABELS[:20]), np.arange(20), signature)
    data = Dataset({"x": random_inputs(5)}, targets=LABELS)
    return start(
        Net("vector", 6), data, "classification", folder, other_part=lambda source, wanted: own,
        teachers={"seeing": lambda part: LiveTeacher("seeing", copy.deepcopy(teacher), "0", signature)},
    )  # fmt: skip


class _Killed(Exception):
    pass


def test_an_unpaired_teacher_of_another_modality_and_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, context = unpaired(tmp_path)
    settings: dict[str, Any] = {"losses": ["unpaired-alignment"], "teacher_data": "images.npz", "epochs": 3}
    whole = distilled(state, context, **settings)
    assert whole.notes["terms"][0].keys() == {"task", "unpaired-alignment"}

    here, stage = replace(context, checkpoint=tmp_path / "checkpoint.pt"), checked(state, context, **settings)
    own = Keeper.end_epoch

    def killed(self: Keeper, epoch: int) -> bool:
        own(self, epoch)
        raise _Killed

    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(Keeper, "end_epoch", killed)
        STAGE.run(state, stage, here)
    again = STAGE.run(state, stage, here)
    assert again.notes["loss"] == whole.notes["loss"]
    assert torch.equal(again.torch.module.head.weight, whole.torch.module.head.weight)  # type: ignore[union-attr,arg-type]


def test_the_content_of_a_method_s_file_makes_a_stage_another_one(tmp_path: Path) -> None:
    _, context = of_images(tmp_path, Dataset({"x": random_inputs(1, 6, 6)}))
    table = tmp_path / "vectors.npy"
    for settings in (
        STAGE.settings.model_validate({"losses": [{"kind": "embedding-table", "table": str(table)}]}),
        STAGE.settings.model_validate({"phases": [{"losses": [{"kind": "embedding-table", "table": str(table)}]}]}),
    ):
        table.unlink(missing_ok=True)
        found = [STAGE.depends_on(settings, context)]
        for number in (0.0, 1.0, 0.0):
            np.save(table, np.full((CLASSES, 3), number))
            found.append(STAGE.depends_on(settings, context))
        assert found[1] == found[3] and len({str(one) for one in found}) == 3
