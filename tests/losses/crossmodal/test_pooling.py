import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.pooling import class_count, known_labels, pooled, sample_mean

from ..steps import random


def test_a_feature_is_pooled_over_its_positions() -> None:
    vectors, tokens, maps = random(2, 3), random(2, 5, 3), random(2, 3, 4, 6)
    assert pooled(vectors) is vectors
    torch.testing.assert_close(pooled(tokens)[1, 2], tokens[1, :, 2].mean())
    torch.testing.assert_close(pooled(maps)[1, 2], maps[1, 2].mean())


def test_the_mean_of_a_sample_is_over_the_positions_that_count() -> None:
    values = torch.tensor([[1.0, 2.0, 9.0], [4.0, 5.0, 6.0]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    assert sample_mean(values, valid).tolist() == [1.5, 0.0]
    assert sample_mean(values).tolist() == sample_mean(values, valid[:, :2]).tolist() == [4.0, 5.0]
    assert sample_mean(values[0], valid[0]).tolist() == [1.0, 2.0, 9.0]
    torch.testing.assert_close(sample_mean(values[:, :2].reshape(1, 2, 2)), torch.tensor([3.0]))


def test_labels_are_negative_where_they_do_not_count() -> None:
    labels = torch.tensor([2, 0, 1], dtype=torch.int32)
    found = known_labels(Step(Answer({}), targets=labels, valid=torch.tensor([True, False, True])), "x")
    assert found.tolist() == [2, -1, 1] and found.dtype == torch.int64
    assert known_labels(Step(Answer({}), targets=labels), "x").tolist() == [2, 0, 1]


def test_labels_that_are_missing_or_no_classes_are_named() -> None:
    with pytest.raises(InputError, match="x: needs labels.*set mixup = 0"):
        known_labels(Step(Answer({})), "x")
    with pytest.raises(InputError, match="x: needs labels of classes"):
        known_labels(Step(Answer({}), targets=torch.zeros(3)), "x")


@pytest.mark.parametrize(("given", "found"), [(None, None), (1, 2), (2, 2), (7, 7)])
def test_one_logit_tells_two_classes_apart(given: int | None, found: int | None) -> None:
    assert class_count(Setup(Answer({}), {}, samples=1, classes=given)) == found
