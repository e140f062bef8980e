import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.labels import class_labels, elements_that_count, known_labels, sample_labels


def step_of(**fields: object) -> Step:
    return Step(Answer({}), **fields)  # type: ignore[arg-type]


def test_labels_are_class_indices_of_the_right_shape_and_ignored_where_they_do_not_count() -> None:
    valid = torch.tensor([True, False, True])
    step = step_of(targets=torch.tensor([2, 1, -1]), valid=valid)
    assert class_labels(step, torch.Size([3])).tolist() == [2, -1, -1]  # type: ignore[union-attr]
    assert class_labels(step, torch.Size([3, 2])) is None
    assert class_labels(step_of(targets=torch.ones(3)), torch.Size([3])) is None


def test_samples_and_positions_that_count() -> None:
    by_sample = step_of(valid=torch.tensor([True, False]))
    assert elements_that_count(by_sample, torch.zeros(2, 3)).tolist() == [[True] * 3, [False] * 3]
    by_position = step_of(valid=torch.tensor([[True, False], [False, False]]))
    assert elements_that_count(by_position, torch.zeros(2)).tolist() == [True, False]
    assert elements_that_count(by_position, torch.zeros(2, 2)).tolist() == [[True, False], [False, False]]
    assert elements_that_count(by_position, torch.zeros(2, 5)).all()


def test_labels_are_negative_where_they_do_not_count() -> None:
    labels = torch.tensor([2, 0, 1], dtype=torch.int32)
    found = known_labels(step_of(targets=labels, valid=torch.tensor([True, False, True])), "x")
    assert found.tolist() == [2, -1, 1] and found.dtype == torch.int64
    assert known_labels(step_of(targets=labels), "x").tolist() == [2, 0, 1]


def test_labels_of_positions_do_not_count_with_their_sample() -> None:
    targets = torch.tensor([[[0, 1], [2, -1]], [[1, 1], [1, 1]]])
    found = known_labels(step_of(targets=targets, valid=torch.tensor([True, False])), "x")
    assert found.tolist() == [[[0, 1], [2, -1]], [[-1, -1], [-1, -1]]]


def test_labels_that_are_missing_or_no_classes_are_named() -> None:
    with pytest.raises(InputError, match="x: needs labels.*set mixup = 0"):
        known_labels(step_of(), "x")
    with pytest.raises(InputError, match="x: needs labels of classes"):
        known_labels(step_of(targets=torch.zeros(3)), "x")


def test_labels_of_positions_are_no_labels_of_samples() -> None:
    assert sample_labels(step_of(targets=torch.tensor([1, 0])), "x").tolist() == [1, 0]
    with pytest.raises(InputError, match="x: needs one label a sample"):
        sample_labels(step_of(targets=torch.zeros(2, 3, dtype=torch.int64)), "x")
