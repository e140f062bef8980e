import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.weight.shared import array_of, batch_mean, class_probabilities, fitted

from ..steps import random


def step_of(**fields: object) -> Step:
    return Step(Answer({}), **fields)  # type: ignore[arg-type]


def test_one_logit_is_that_of_the_second_of_two_classes() -> None:
    logits = random(3, 1)
    torch.testing.assert_close(class_probabilities(logits)[:, 1], torch.sigmoid(logits[:, 0]))


def test_the_mean_is_that_of_all_processes() -> None:
    step = step_of(valid=torch.tensor([True, False]), gather=lambda sums: torch.cat([sums, torch.tensor([[8.0, 3.0]])]))
    assert batch_mean(step, torch.tensor([4.0, 100.0])) == (4 + 8) / (1 + 3)


def test_weights_are_resized_or_averaged_to_the_loss() -> None:
    weight = torch.arange(16.0).reshape(1, 4, 4)
    step = step_of()
    assert fitted(step, weight, torch.zeros(1, 2, 2)).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert fitted(step, weight, torch.zeros(1, 8, 8)).shape == (1, 8, 8)
    assert fitted(step, weight, torch.zeros(1, 7)).tolist() == [7.5]
    assert fitted(step, weight[:, 0], torch.zeros(1, 2)).tolist() == [[0.5, 2.5]]


def test_the_mean_over_positions_is_of_those_that_count() -> None:
    valid = torch.tensor([[True, True, False], [False, False, False]])
    weight = torch.tensor([[1.0, 3.0, 50.0], [1.0, 1.0, 1.0]])
    assert fitted(step_of(valid=valid), weight, torch.zeros(2)).tolist() == [2.0, 0.0]


def test_an_absent_array_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"'edges' with the edges.*\['mask'\]"):
        array_of(step_of(extras={"mask": torch.ones(2)}), "edges", "some-kind", "the edges")
