import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.weight.neighbourhood_entropy import NeighbourhoodEntropy, heterophily, hyperedge_entropy

from ..steps import make_step

EDGES = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1])


def step_of(teacher: Tensor, **changes: object) -> Step:
    fields = {"targets": LABELS, "extras": {"hyperedges": EDGES}, **changes}
    return make_step(Answer({}), Answer({"output": teacher}), **fields)


def test_a_hyperedge_of_one_class_has_none_and_an_even_one_full_entropy() -> None:
    entropy = hyperedge_entropy(EDGES, functional.one_hot(LABELS, 2).double())
    torch.testing.assert_close(entropy, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    classes = functional.one_hot(LABELS, 4).double()
    torch.testing.assert_close(hyperedge_entropy(EDGES, classes)[1], torch.tensor(math.log(2) / math.log(4)).double())


def test_a_sample_has_the_mean_of_its_hyperedges() -> None:
    entropy = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert heterophily(EDGES, entropy).tolist() == [0.0, 0.5, 1.0, 0.0]


def test_the_weight_falls_exponentially() -> None:
    found = NeighbourhoodEntropy(kappa=3.0)(step_of(torch.zeros(4, 2, dtype=torch.float64)), torch.zeros(4))
    torch.testing.assert_close(found, torch.exp(-3 * torch.tensor([0.0, 0.5, 1.0, 0.0], dtype=torch.float64)))


def test_where_there_is_no_label_the_teacher_s_class_stands_in() -> None:
    teacher = 5 * functional.one_hot(LABELS, 2).double()
    given = NeighbourhoodEntropy()(step_of(teacher), torch.zeros(4))
    for targets in (None, torch.tensor([0, -1, -1, 1])):
        torch.testing.assert_close(NeighbourhoodEntropy()(step_of(teacher, targets=targets), torch.zeros(4)), given)


def test_members_on_other_processes_count() -> None:
    teacher = torch.zeros(4, 2, dtype=torch.float64)
    alone = NeighbourhoodEntropy()(step_of(teacher), torch.zeros(4))

    def gather(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor.flip(1) if tensor.shape[1] == 2 else tensor])  # the same edges, other classes

    together = NeighbourhoodEntropy()(step_of(teacher, gather=gather), torch.zeros(4))
    assert together[0] < alone[0] and together[3] == alone[3]


def test_an_absent_incidence_is_named() -> None:
    with pytest.raises(InputError, match="'hyperedges'"):
        NeighbourhoodEntropy()(step_of(torch.zeros(4, 2), extras={}), torch.zeros(4))
