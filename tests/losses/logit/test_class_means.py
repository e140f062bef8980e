import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup
from edgekd.losses.logit.class_means import ClassMeans, class_means

from ..steps import make_step, random

NOTHING = Answer({})


def test_the_table_changes_at_the_end_of_an_epoch_only() -> None:
    means, step = ClassMeans(3, "uniform").double(), make_step(NOTHING, NOTHING)
    probabilities, labels = random(4, 3).softmax(1), torch.tensor([0, 2, 0, -1])
    means.add(probabilities[:2], labels[:2], step)
    means.add(probabilities[2:], labels[2:], step)
    torch.testing.assert_close(means.table, torch.full((3, 3), 1 / 3).double())
    means.renew()
    torch.testing.assert_close(means.table[0], (probabilities[0] + probabilities[2]) / 2)
    torch.testing.assert_close(means.table[1], torch.full((3,), 1 / 3).double())
    torch.testing.assert_close(means.table[2], probabilities[1])
    assert means.count.sum() == 0 and means.sum.abs().sum() == 0


def test_momentum_keeps_a_share_and_rare_classes_go_back() -> None:
    means, step = ClassMeans(2, "one-hot"), make_step(NOTHING, NOTHING)
    for _ in range(2):
        means.add(torch.full((5, 2), 0.5), torch.tensor([0, 0, 0, 0, 1]), step)
        means.renew(momentum=0.9, least=2)
    torch.testing.assert_close(means.table, torch.tensor([[0.905, 0.095], [0.0, 1.0]]))


def test_elements_of_all_processes_count() -> None:
    means = ClassMeans(2, "uniform")
    step = make_step(NOTHING, NOTHING, gather=lambda tensor: torch.cat([tensor, tensor]))
    means.add(torch.tensor([[0.9, 0.1]]), torch.tensor([1]), step)
    assert means.count.tolist() == [0, 2]


def test_maps_have_a_label_a_position() -> None:
    means, labels = ClassMeans(3, "uniform"), torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    probabilities = random(2, 4, 5, 3, dtype=torch.float32).softmax(-1)
    means.add(probabilities, labels, make_step(NOTHING, NOTHING))
    means.renew()
    torch.testing.assert_close(means.table[1], probabilities[labels == 1].mean(0))
    assert means.rows(labels).shape == (2, 4, 5, 3)


def test_what_has_no_classes_is_refused() -> None:
    answer = Answer({"output": torch.zeros(2, 3)})
    with pytest.raises(InputError, match="no classes"):
        class_means("gkl", Setup(answer, {}, samples=2), answer, None, "uniform")
    with pytest.raises(InputError, match="5 classes, the output has the shape"):
        class_means("gkl", Setup(answer, {}, samples=2, classes=5), answer, None, "uniform")
