import math

import torch

from edgekd.losses import Answer
from edgekd.losses.committee.confidence import Confidence, confidence, label_confidence

from ..steps import make_step, random


def test_a_sure_answer_has_confidence_one_and_an_even_one_zero() -> None:
    sure = confidence(torch.tensor([[50.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    torch.testing.assert_close(sure, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(confidence(torch.tensor([[50.0], [0.0]])), torch.tensor([1.0, 0.0]))


def test_it_is_one_minus_the_entropy_over_its_largest() -> None:
    p = torch.tensor([0.5, 0.25, 0.25])
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    torch.testing.assert_close(confidence(p.log()), torch.tensor(1 - entropy / math.log(3)))


def test_with_labels_the_weights_are_those_of_the_equation() -> None:
    losses = torch.tensor([[0.1], [1.0], [3.0]])
    e = losses.exp()
    torch.testing.assert_close(label_confidence(losses, torch.ones(3, 1, dtype=torch.bool)), (1 - e / e.sum()) / 2)


def test_one_teacher_that_is_there_alone_has_all_the_weight() -> None:
    share = label_confidence(torch.tensor([[5.0], [0.1]]), torch.tensor([[True], [False]]))
    assert share.tolist() == [[1.0], [0.0]]


def test_samples_without_a_label_go_by_entropy() -> None:
    teachers = {name: Answer({"output": random(3, 4, seed=k)}) for k, name in enumerate("ab")}
    some = make_step(teachers["a"], teachers["a"], teachers=teachers, targets=torch.tensor([1, -1, 2]))
    none = make_step(teachers["a"], teachers["a"], teachers=teachers, targets=None)
    first, second = Confidence()(some).output(), Confidence()(none).output()
    torch.testing.assert_close(first[1], second[1])
    assert not torch.allclose(first[0], second[0])
    torch.testing.assert_close(Confidence(labels=False)(some).output(), second)


def test_every_position_of_a_map_has_its_own_shares() -> None:
    logits = [random(2, 3, 4, 4, seed=seed, scale=3) for seed in (0, 1)]
    teachers = {f"t{k}": Answer({"output": one}) for k, one in enumerate(logits)}
    step = make_step(teachers["t0"], teachers["t0"], teachers=teachers, targets=None)
    found = Confidence()(step).output().softmax(1)[1, :, 2, 3]
    sure = torch.stack([confidence(one[1, :, 2, 3]) for one in logits])
    p = torch.stack([one[1, :, 2, 3].softmax(0) for one in logits])
    torch.testing.assert_close(found, (sure / sure.sum()) @ p)
