import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.missing_modality import Centres, MissingModality, centre_loss

from ..steps import random


def test_the_centre_loss_is_half_the_square_where_centre_and_label_are_known() -> None:
    features, centres = random(4, 3), random(3, 3, seed=1)
    labels, known = torch.tensor([2, 1, -1, 1]), torch.tensor([True, False, True])
    found = centre_loss(features, labels, centres, known)
    torch.testing.assert_close(found[0], (features[0] - centres[2]).square().sum() / 2)
    assert found[1:].tolist() == [0, 0, 0]


def test_centres_are_moving_means_of_their_class_alone() -> None:
    memory = Centres(3, 2).double()
    first, second = random(3, 2), random(2, 2, seed=1)
    memory.update(first, torch.tensor([1, 1, -1]), 0.9)
    assert memory.known.tolist() == [False, True, False]
    torch.testing.assert_close(memory.centres[1], first[:2].mean(0))
    memory.update(second, torch.tensor([1, 2]), 0.9)
    torch.testing.assert_close(memory.centres[1], 0.9 * first[:2].mean(0) + 0.1 * second[0])
    torch.testing.assert_close(memory.centres[2], second[1])
    assert (memory.centres[0] == 0).all()


def made(classes: int | None = 4, width: int = 4, **fields: object) -> tuple[Step, Centres]:
    mine = Answer({"output": random(3, width)}, {"penultimate": random(3, 5, seed=1)})
    yours = Answer({"output": random(3, width, seed=2)})
    memory = MissingModality().prepare(Setup(mine, {"t": yours}, samples=3, classes=classes)).double()
    return Step(mine, {"t": yours}, yours, **{"targets": torch.tensor([0, 1, 1]), **fields}), memory  # type: ignore[arg-type]


def test_it_is_the_divergence_and_then_the_centres_count_too() -> None:
    step, memory = made()
    kl = 16 * functional.kl_div(
        (step.student.output() / 4).log_softmax(1), (step.the_teacher.output() / 4).softmax(1), reduction="none"
    ).sum(1)
    loss = MissingModality()
    torch.testing.assert_close(loss(step, memory), kl)  # no centre is known yet
    f = step.student.features["penultimate"]
    away = (f[1] - f[2]).square().sum() / 8  # both are half their distance from their mean
    torch.testing.assert_close(loss(step, memory) - kl, 0.005 * torch.stack([torch.zeros(()).double(), away, away]))


def test_one_logit_has_two_centres_and_a_divergence() -> None:
    step, memory = made(classes=2, width=1)
    p, q = (torch.sigmoid(one.output()[:, 0] / 4) for one in (step.the_teacher, step.student))
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(MissingModality()(step, memory), 16 * kl)
    assert memory.known.tolist() == [True, True]


def test_evaluation_leaves_the_centres_alone() -> None:
    step, memory = made()
    with torch.no_grad():
        MissingModality()(step, memory)
    assert not memory.known.any()


def test_processes_end_up_with_equal_centres() -> None:
    step, memory = made(gather=lambda tensor: torch.cat([tensor, tensor + 1]))
    MissingModality()(step, memory)
    f = step.student.features["penultimate"]
    torch.testing.assert_close(memory.centres[1], torch.stack([f[1], f[2], f[0] + 1]).mean(0))
    assert memory.known.tolist() == [True, True, True, False]


def test_data_without_classes_or_labels_are_named() -> None:
    with pytest.raises(InputError, match="no classes"):
        made(classes=None)
    step, memory = made(targets=None)
    with pytest.raises(InputError, match="needs labels"):
        MissingModality()(step, memory)
