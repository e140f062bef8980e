import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.losses import Answer
from edgekd.losses.weight.teacher_confidence import TeacherConfidence, certainty, reliability

from ..steps import make_step, random


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def spearman(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(ranks(a.double().numpy()), ranks(b.double().numpy()))[0, 1])


def test_certainty_goes_from_uniform_to_one_class() -> None:
    torch.testing.assert_close(certainty(torch.tensor([[0.25] * 4, [0.0, 1.0, 0.0, 0.0]])), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(certainty(torch.tensor([0.5, 0.5, 0.0, 0.0])), torch.tensor(0.5))


def test_labels_mix_in_whether_the_teacher_is_right() -> None:
    probabilities = torch.tensor([[0.7, 0.3], [0.7, 0.3], [0.7, 0.3]])
    sure = certainty(probabilities)[0]
    found = reliability(probabilities, torch.tensor([0, 1, -1]), correctness=0.4)
    torch.testing.assert_close(found, torch.stack([0.6 * sure + 0.4, 0.6 * sure, sure]))


def test_the_weight_is_by_position_where_the_loss_is() -> None:
    teacher = random(3, 4, 6, 6)
    step = make_step(Answer({}), Answer({"output": teacher}), targets=None)
    torch.testing.assert_close(
        TeacherConfidence()(step, torch.zeros(3, 6, 6)), certainty(teacher.softmax(1).movedim(1, -1))
    )


@pytest.mark.parametrize("corruption", ["random logits", "wrong labels"])
def test_a_teacher_corrupted_on_a_third_of_the_samples_is_found_out(corruption: str) -> None:
    count, classes = 400, 10
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (count,), generator=generator)
    corrupted = torch.rand(count, generator=generator) < 0.3
    answered = torch.where(corrupted, (labels + 1) % classes, labels) if corruption == "wrong labels" else labels
    logits = torch.randn(count, classes, generator=generator)
    sure = 4 * torch.nn.functional.one_hot(answered, classes) + logits
    teacher = torch.where(corrupted[:, None], 4 * logits, sure) if corruption == "random logits" else sure
    step = make_step(Answer({}), Answer({"output": teacher}), targets=labels)
    weight = TeacherConfidence()(step, torch.zeros(count))
    assert spearman(weight, ~corrupted) >= 0.4
