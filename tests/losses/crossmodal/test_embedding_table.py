from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.embedding_table import EmbeddingTable, Table, embedding_distance

from ..steps import random

ROWS = ((1.0, 0.0, 2.0), (0.0, 1.0, 0.0), (0.5, 0.5, -1.0))


def test_it_is_one_minus_the_cosine_and_zero_without_a_vector() -> None:
    h, e = random(2, 3, 5), random(2, 3, 5, seed=1)
    e[1, 2] = 0
    found = embedding_distance(h, e)
    for i in range(2):
        for j in range(3):
            expected = 0.0 if (i, j) == (1, 2) else float(1 - h[i, j] @ e[i, j] / (h[i, j].norm() * e[i, j].norm()))
            assert abs(float(found[i, j]) - expected) < 1e-9
    assert embedding_distance(h, 3 * h).abs().max() < 1e-9


def test_rows_are_looked_up_and_negative_numbers_have_none() -> None:
    table = Table(None, torch.tensor(ROWS))
    found = table.look_up(torch.tensor([[2, -1], [0, 1]]))
    assert found.tolist() == [[list(ROWS[2]), [0, 0, 0]], [list(ROWS[0]), list(ROWS[1])]]


def made(loss: EmbeddingTable, feature: torch.Tensor, **fields: object) -> tuple[Step, Table]:
    torch.manual_seed(0)
    mine = Answer({}, {"penultimate": feature})
    return Step(mine, **fields), loss.prepare(Setup(mine, {}, samples=3))  # type: ignore[arg-type]


def test_labels_say_which_row_and_those_that_do_not_count_have_none() -> None:
    loss, feature = EmbeddingTable(table=ROWS), random(3, 3)
    step, memory = made(loss, feature, targets=torch.tensor([2, 0, 1]), valid=torch.tensor([True, True, False]))
    assert memory.projector is None
    rows = torch.tensor(ROWS).double()
    expected = 1 - torch.cosine_similarity(feature[:2], rows[[2, 0]])
    torch.testing.assert_close(loss(step, memory), torch.cat([expected, torch.zeros(1).double()]))


def test_an_array_of_the_data_says_it_of_tokens_behind_a_linear_map(tmp_path: Path) -> None:
    np.save(tmp_path / "senses.npy", np.array(ROWS, np.float32))
    loss, feature = EmbeddingTable(table=tmp_path / "senses.npy", index="sense"), random(2, 4, 6)
    index = torch.tensor([[0, 1, -1, 2], [2, 2, 0, -1]])
    step, memory = made(loss, feature, extras={"sense": index})
    assert isinstance(memory.projector, nn.Linear)
    found = loss(step, memory)
    expected = 1 - torch.cosine_similarity(
        memory.projector(feature), torch.tensor(ROWS).double()[index.clamp(min=0)], -1
    )
    torch.testing.assert_close(found, expected * (index >= 0))
    assert found.shape == (2, 4)


def test_the_table_is_not_saved_with_the_training() -> None:
    _, memory = made(EmbeddingTable(table=ROWS), random(3, 5))
    assert set(memory.state_dict()) == {"projector.weight", "projector.bias"}


def test_a_step_pulls_the_state_towards_its_vector() -> None:
    loss, feature = EmbeddingTable(table=ROWS), random(3, 3).requires_grad_()
    step, memory = made(loss, feature, targets=torch.tensor([2, 0, 1]))
    before = loss(step, memory)
    (gradient,) = torch.autograd.grad(before.sum(), feature)
    after = loss(Step(Answer({}, {"penultimate": feature - 0.1 * gradient}), targets=step.targets), memory)
    assert (after < before).all()


def test_one_state_is_needed_for_every_row_number() -> None:
    loss = EmbeddingTable(table=ROWS)
    step, memory = made(loss, random(3, 3, 3), targets=torch.tensor([2, 0, 1]))
    with pytest.raises(InputError, match=r"shape \(3, 3, 3\), the row numbers \(3,\)"):
        loss(step, memory)


def test_labels_are_needed_without_an_index() -> None:
    loss = EmbeddingTable(table=ROWS)
    step, memory = made(loss, random(3, 3))
    with pytest.raises(InputError, match="needs labels"):
        loss(step, memory)
