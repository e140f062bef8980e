import torch
from torch.nn import functional

from edgekd.losses.committee.variance import fit_shares

from ..steps import random

ALL = torch.ones(3, 4, dtype=torch.bool)


def test_with_labels_the_weights_are_the_probabilities_of_the_label() -> None:
    logits, labels = random(3, 4, 5, seed=1), torch.tensor([0, 4, 2, 2])
    p = logits.softmax(-1)[:, torch.arange(4), labels]
    torch.testing.assert_close(fit_shares(logits, labels, ALL), p / p.sum(0))


def test_without_labels_the_weights_fall_with_the_distance_from_the_mean() -> None:
    logits = random(3, 4, 5, seed=2)
    mean = logits.softmax(-1).mean(0)
    distance = torch.stack([functional.kl_div(one.log_softmax(-1), mean, reduction="none").sum(-1) for one in logits])
    torch.testing.assert_close(fit_shares(logits, None, ALL), (-distance).softmax(0))
    torch.testing.assert_close(fit_shares(logits, torch.full((4,), -1), ALL), (-distance).softmax(0))


def test_the_odd_one_out_counts_least() -> None:
    logits = torch.tensor([[[4.0, 0.0]], [[4.0, 0.0]], [[0.0, 4.0]]])
    share = fit_shares(logits, None, torch.ones(3, 1, dtype=torch.bool))[:, 0]
    assert share[2] < share[0] == share[1]


def test_who_is_not_there_has_no_weight() -> None:
    present = ALL.clone()
    present[0] = False
    share = fit_shares(random(3, 4, 5, seed=3), torch.tensor([0, 4, 2, 2]), present)
    assert not share[0].any()
    torch.testing.assert_close(share.sum(0), torch.ones(4, dtype=torch.float64))
