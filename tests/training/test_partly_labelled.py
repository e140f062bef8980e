"""Classifications of which some samples have no label: class -1."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekd.data import Dataset, Part
from edgekd.errors import InputError
from edgekd.losses import COMMITTEES, LOSSES, WEIGHTS
from edgekd.training.batch import Batch, Slice, load_batch
from edgekd.training.phase import Phase

from .test_padding import C, D, L, N, Pooled, signature, teachers_for, total

TARGETS = torch.tensor([2, -1, 0, -1])


def a_batch(targets: torch.Tensor = TARGETS) -> Batch:
    generator = torch.Generator().manual_seed(4)
    extras = {"modalities": torch.ones(N, 2), "confidence": torch.rand(N, generator=generator)}
    inputs = {"x": torch.randn(N, L, D, generator=generator)}
    return Batch(torch.arange(N), inputs, targets, None, torch.arange(N), extras, labelled=targets >= 0)


def test_the_task_s_loss_is_the_mean_over_the_labelled() -> None:
    student, batch = Pooled(C), a_batch()
    found = total(Phase.model_validate({"task": 1.0}), "classification", student, batch, {})
    expected = functional.cross_entropy(student(batch.inputs["x"]), TARGETS, ignore_index=-1)
    torch.testing.assert_close(found, expected)
    mixed = replace(batch, mixed=(TARGETS.flip(0), 0.25))
    found = total(Phase.model_validate({"task": 1.0}), "classification", student, mixed, {})
    other = functional.cross_entropy(student(batch.inputs["x"]), TARGETS.flip(0), ignore_index=-1)
    torch.testing.assert_close(found, 0.25 * expected + 0.75 * other)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_a_loss_that_needs_labels_looks_at_the_labelled_alone(kind: str) -> None:
    """A loss that needs none looks at all; either stays a number, with its gradient."""
    torch.manual_seed(3)
    loss = LOSSES[kind].example()
    if any(tap != "penultimate" for tap in loss.student_taps()):
        pytest.skip("its example has taps of another network")
    student, batch, teachers = Pooled(C), a_batch(), teachers_for(loss, N, C)
    moved = torch.where(batch.labelled[:, None, None], batch.inputs["x"], -batch.inputs["x"])  # type: ignore[index]
    phase = Phase(task=0, losses=(loss,))
    try:
        value = total(phase, "classification", student, batch, teachers)
    except InputError as error:
        pytest.skip(str(error))
    value.backward()
    assert torch.isfinite(value)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())
    if "labels" in loss.needs:
        other = total(phase, "classification", student, replace(batch, inputs={"x": moved}), teachers)
        torch.testing.assert_close(value, other)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "gkl", "weights": "sample", "weight": 1.0},
        {"kind": "ikl", "weights": "sample", "weight": 1.0},
        {"kind": "graph-smoothing", "prototypes": torch.eye(C).tolist()},
    ],
    ids=lambda settings: settings["kind"],
)
def test_settings_that_do_without_labels_look_at_every_sample(settings: dict[str, object]) -> None:
    phase = Phase.model_validate({"task": 0.0, "losses": [settings]})
    torch.manual_seed(3)
    batch, student, teachers = a_batch(), Pooled(C), teachers_for(None, N, C)
    found = total(phase, "classification", student, batch, teachers)
    none = replace(batch, targets=None, labelled=None)
    torch.testing.assert_close(found, total(phase, "classification", student, none, teachers))
    assert phase.needing_labels() == []


@pytest.mark.parametrize(
    "kind", sorted(kind for kind, loss in LOSSES.items() if loss.shape == "logits" and "switch" not in loss.needs)
)
def test_a_padding_mask_beside_the_labels_changes_nothing(kind: str) -> None:
    batch, loss = a_batch(), LOSSES[kind].example()
    phase, teachers = Phase(task=1, losses=(loss,)), teachers_for(loss, N, C)
    masked, student = replace(batch, valid=torch.ones(N, L, dtype=torch.bool)), Pooled(C)
    first, second = (total(phase, "classification", student, one, teachers) for one in (batch, masked))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    "role, kind", [("importance", kind) for kind in WEIGHTS] + [("committee", k) for k in COMMITTEES]
)
def test_weights_and_committees_do_without_labels_where_there_are_none(role: str, kind: str) -> None:
    torch.manual_seed(3)
    if role == "importance":
        loss = LOSSES["kl"].model_validate({"importance": WEIGHTS[kind].example()})
        phase = Phase(task=0, losses=(loss,))
    else:
        phase = Phase(task=0, losses=(LOSSES["kl"].example(),), committee=COMMITTEES[kind].example())
    student, batch = Pooled(C), a_batch()
    try:
        value = total(phase, "classification", student, batch, teachers_for(None, N, C))
    except InputError as error:
        pytest.skip(str(error))
    value.backward()
    assert torch.isfinite(value) and all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())


def test_a_batch_says_who_has_a_label_only_where_some_have_none() -> None:
    def batch(targets: list[int], positions: list[int]) -> Batch:
        dataset = Dataset({"x": np.zeros((len(targets), L, D), np.float32)}, targets=np.array(targets))
        part = Part(dataset, np.arange(len(targets)), signature("classification"))
        layout = torch.contiguous_format
        return load_batch(part, np.array(positions), Slice(), (), 0.0, torch.Generator(), "cpu", layout)

    assert batch([0, 1, 2], [0, 1]).labelled is None
    found = batch([0, -1, 2], [0, 2]).labelled  # the same in every batch, so that all processes of a run agree
    assert found is not None and found.tolist() == [True, True]
