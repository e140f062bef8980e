import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.context_occupancy import ContextPool, ContextToken, Occupancy, occupancy_loss

from ..steps import Answer, make_setup, make_step, memory_of, random


def test_the_token_is_torch_s_attention_of_one_query() -> None:
    torch.manual_seed(0)
    pool, tokens = ContextPool(4, 6).double(), random(2, 5, 4)
    counted = torch.ones(2, 5, dtype=torch.bool)
    counted[1, 3:] = False
    query = pool.token.expand(2, 1, 4)
    expected = functional.scaled_dot_product_attention(query, tokens, tokens, attn_mask=counted[:, None])
    torch.testing.assert_close(pool(tokens, counted), pool.out(expected[:, 0]))


@pytest.mark.parametrize("yours", [(3, 7, 6), (3, 6)])
@pytest.mark.parametrize("mine", [(3, 9, 4), (3, 4, 6, 6), (3, 4)])
def test_it_learns_the_teacher_s_class_token(mine: tuple[int, ...], yours: tuple[int, ...]) -> None:
    loss = ContextToken(taps={"a": "b"})
    student, teacher = Answer({}, {"a": random(*mine)}), Answer({}, {"b": random(*yours, seed=1)})
    memory, step = memory_of(loss, student, teacher), make_step(student, teacher)
    assert loss(step, memory).shape == (3,)
    optimizer = torch.optim.Adam(memory.parameters(), 0.1)
    for _ in range(50):
        optimizer.zero_grad()
        loss(step, memory).mean().backward()
        optimizer.step()
    assert loss(step, memory).mean() < 0.1
    assert memory.pairs["a~b"].token.grad is not None


def test_a_map_has_no_class_token() -> None:
    student, teacher = Answer({}, {"a": random(3, 4)}), Answer({}, {"b": random(3, 4, 6, 6)})
    with pytest.raises(InputError, match="class token first"):
        ContextToken(taps={"a": "b"}).prepare(make_setup(student, teacher))


def test_unknown_cells_do_not_count() -> None:
    logits = random(2, 1, 2, 2)
    grid = torch.tensor([[[[1.0, 0.0], [-1.0, 0.0]]], [[[-1.0, -1.0], [-1.0, -1.0]]]])
    known = functional.binary_cross_entropy_with_logits(
        logits[0, 0].flatten()[[0, 1, 3]], torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    )
    torch.testing.assert_close(occupancy_loss(logits, grid), torch.stack([known, torch.zeros_like(known)]))


def test_the_head_is_trained_on_the_grid_of_the_data() -> None:
    feature = random(3, 4, 6, 6)
    grid = (feature[:, :2] > 0).double()  # a head can read it from the feature
    student = Answer({}, {"bev": feature})
    loss = Occupancy(tap="bev", grid="grid", moments=2)
    memory, step = memory_of(loss, student, Answer({})), make_step(student, Answer({}), extras={"grid": grid})
    first = loss(step, memory).mean().item()
    optimizer = torch.optim.Adam(memory.parameters(), 0.1)
    for _ in range(50):
        optimizer.zero_grad()
        loss(step, memory).mean().backward()
        optimizer.step()
    assert loss(step, memory).mean().item() < first / 2


def test_what_does_not_fit_is_said() -> None:
    student = Answer({}, {"penultimate": random(3, 4)})
    with pytest.raises(InputError, match=r"gives a map"):
        Occupancy().prepare(make_setup(student, student))
    student = Answer({}, {"penultimate": random(3, 4, 6, 6)})
    memory = memory_of(Occupancy(), student, student)
    with pytest.raises(InputError, match="moments = 1"):
        Occupancy()(make_step(student, student, extras={"occupancy": torch.zeros(3, 2, 6, 6)}), memory)
    with pytest.raises(InputError, match="no array 'occupancy'"):
        Occupancy()(make_step(student, student), memory)
