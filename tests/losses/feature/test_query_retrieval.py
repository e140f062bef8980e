import math

import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.query_retrieval import QueryRetrieval, retrieve

from ..steps import Answer, make_setup, make_step, memory_of, random


def test_it_is_torch_s_attention_over_unit_tokens() -> None:
    query, teacher = random(2, 5, 4), random(2, 7, 4, seed=1)
    tokens = functional.normalize(teacher, dim=-1)
    torch.testing.assert_close(retrieve(query, teacher), functional.scaled_dot_product_attention(query, tokens, tokens))


def test_a_sharp_query_retrieves_its_token() -> None:
    teacher = torch.eye(4, dtype=torch.float64)[None] * 3
    torch.testing.assert_close(retrieve(200 * teacher[:, [2]], teacher), torch.eye(4, dtype=torch.float64)[None, [2]])


def test_tokens_that_do_not_count_are_not_retrieved() -> None:
    query, teacher = random(2, 5, 4), random(2, 7, 4, seed=1)
    counted = torch.ones(2, 7, dtype=torch.bool)
    counted[:, 5:] = False
    torch.testing.assert_close(retrieve(query, teacher, counted), retrieve(query, teacher[:, :5]))


def test_the_loss_is_the_card_s() -> None:
    loss = QueryRetrieval(taps={"a": "b"}, same_place=0.3)
    student, teacher = Answer({}, {"a": random(3, 5, 4)}), Answer({}, {"b": random(3, 5, 6, seed=1)})
    memory = memory_of(loss, student, teacher)
    made = memory.pairs["a~b"]
    mine, yours = student.features["a"], teacher.features["b"]
    value, query = made["value"](mine), made["query"](mine)
    for sample in range(3):
        keys = yours[sample] / yours[sample].norm(dim=1, keepdim=True)
        for token in range(5):
            share = (keys @ query[sample, token] / math.sqrt(6)).softmax(0)
            found = share @ keys
            cosine = value[sample, token] @ found / (value[sample, token].norm() * found.norm())
            expected = 1 - cosine + 0.3 * (value[sample, token] - yours[sample, token]).square().mean()
            torch.testing.assert_close(loss(make_step(student, teacher), memory)[sample, token], expected)


def test_maps_of_two_sizes_keep_the_student_s_positions() -> None:
    loss = QueryRetrieval(taps={"a": "b"})
    student, teacher = Answer({}, {"a": random(3, 4, 6, 6)}), Answer({}, {"b": random(3, 8, 3, 3, seed=1)})
    assert loss(make_step(student, teacher), memory_of(loss, student, teacher)).shape == (3, 6, 6)


def test_lengths_may_differ_where_places_are_not_compared() -> None:
    student, teacher = Answer({}, {"a": random(3, 5, 4)}), Answer({}, {"b": random(3, 7, 4)})
    with pytest.raises(InputError, match="same_place = 0"):
        QueryRetrieval(taps={"a": "b"}).prepare(make_setup(student, teacher))
    loss = QueryRetrieval(taps={"a": "b"}, same_place=0)
    assert loss(make_step(student, teacher), memory_of(loss, student, teacher)).shape == (3, 5)
    vector = Answer({}, {"a": random(3, 4)})
    with pytest.raises(InputError, match="both maps"):
        loss.prepare(make_setup(vector, teacher))


def test_learning_it_brings_the_student_to_the_retrieved_tokens() -> None:
    loss = QueryRetrieval(taps={"a": "b"})
    student, teacher = Answer({}, {"a": random(3, 5, 4)}), Answer({}, {"b": random(3, 5, 4, seed=1)})
    memory, step = memory_of(loss, student, teacher), make_step(student, teacher)
    optimizer = torch.optim.Adam(memory.parameters(), 0.05)
    first = loss(step, memory).mean().item()
    for _ in range(50):
        optimizer.zero_grad()
        loss(step, memory).mean().backward()
        optimizer.step()
    assert loss(step, memory).mean().item() < first / 2
