import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgekd.errors import InputError
from edgekd.losses import Setup
from edgekd.losses.logit.dbild import Dbild, dbild, knee

from ..steps import answers, make_step, random


def one_element(student: Tensor, teacher: Tensor, k: int, temperature: float, *, reverse: bool) -> Tensor:
    """Both index sets of one element (C,), pair by pair."""
    total = torch.zeros((), dtype=student.dtype)
    for leader in (teacher, student):
        leading = leader.argsort(descending=True)[:k].tolist()
        p, q = (
            torch.stack([(z[i] - z[j]) / temperature for i, j in itertools.combinations(leading, 2)]).softmax(0)
            for z in (student, teacher)
        )
        if not reverse:
            p, q = q, p
        total = total + (p * (p / q).log()).sum()
    return total


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_it_is_the_sum_over_the_pairs_of_both_sets(direction: str) -> None:
    student, teacher, k = random(2, 3, 12), random(2, 3, 12, seed=1), torch.tensor([[3, 5, 8], [12, 4, 3]])
    found = dbild(student, teacher, k, 2.0, direction)  # type: ignore[arg-type]
    for at in itertools.product(range(2), range(3)):
        expected = one_element(student[at], teacher[at], int(k[at]), 2.0, reverse=direction == "reverse")
        torch.testing.assert_close(found[at], expected)


def test_an_element_s_k_does_not_depend_on_the_others() -> None:
    student, teacher = random(2, 12), random(2, 12, seed=1)
    torch.testing.assert_close(dbild(student, teacher, torch.tensor([4, 12]))[:1], dbild(student[:1], teacher[:1], 4))


def test_classes_that_lead_nowhere_get_no_gradient() -> None:
    student, teacher = torch.tensor([[9.0, 8, 7, 1, 0]], requires_grad=True), torch.tensor([[8.0, 9, 6, 1, 2]])
    (gradient,) = torch.autograd.grad(dbild(student, teacher, 3).sum(), student)
    assert (gradient[0, :3] != 0).all() and (gradient[0, 3:] == 0).all()


def test_the_knee_stands_where_the_curve_bends() -> None:
    leading = torch.tensor([5.0, 4.98, 4.96, 4.94, 4.92, 4.90])
    logits = torch.stack([torch.cat([leading, torch.full((94,), -5.0)]), torch.zeros(100)])
    assert knee(logits).tolist() == [7, 4]  # the first class behind the drop; no bend
    assert knee(logits, highest=5).tolist() == [5, 4]
    assert knee(logits[:, :3]).tolist() == [3, 3]


def test_the_knee_is_the_point_farthest_below_the_diagonal() -> None:
    ranked = random(40, scale=3).softmax(0).sort(descending=True).values
    scaled = (ranked - ranked[-1]) / (ranked[0] - ranked[-1])
    expected = max(range(40), key=lambda rank: 1 - float(scaled[rank]) - rank / 39) + 1
    assert knee(ranked.log(), lowest=1).item() == expected


def test_a_fixed_k_and_the_cap() -> None:
    student, teacher = answers(Dbild(), seed=1)
    for given, k in (({"k": 3}, 3), ({"k": 9}, 4), ({}, 4)):
        found = Dbild.model_validate(given)(make_step(student, teacher))
        torch.testing.assert_close(found, dbild(student.output(), teacher.output(), k))


def test_what_makes_a_single_pair_is_refused() -> None:
    with pytest.raises(ValidationError):
        Dbild(k=2)
    answer, _ = answers(Dbild(), seed=1)
    with pytest.raises(InputError, match="use kl"):
        Dbild().prepare(Setup(answer, {}, samples=3, classes=2))
