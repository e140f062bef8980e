import pytest
import torch
from pydantic import ValidationError

from edgekd.errors import InputError
from edgekd.losses.feature.cross_resolution import CrossResolution, attention_term, patch_means

from ..steps import Answer, make_setup, make_step, memory_of, random


def test_each_patch_meets_the_mean_of_the_tokens_that_cover_it() -> None:
    student, teacher = Answer({}, {"a": random(3, 4, 8, 12)}), Answer({}, {"b": random(3, 4, 2, 3, seed=1)})
    expected = torch.zeros(3, dtype=torch.float64)
    for row in range(2):
        for column in range(3):
            covered = student.features["a"][:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean((2, 3))
            expected += (covered - teacher.features["b"][:, :, row, column]).square().mean(1) / 6
    loss = CrossResolution(taps={"a": "b"})
    torch.testing.assert_close(loss(make_step(student, teacher), memory_of(loss, student, teacher)), expected)
    assert patch_means(student.features["a"], 2, 3).shape == (3, 4, 2, 3)


def test_attention_is_scaled_to_a_sum_of_one() -> None:
    tile, patches, attention = random(2, 4), random(2, 4, 2, 2, seed=1), random(2, 2, 2, seed=2).abs()
    expected = torch.zeros(2, dtype=torch.float64)
    for row in range(2):
        for column in range(2):
            share = attention[:, row, column] / attention.sum((1, 2))
            expected += share * (patches[:, :, row, column] - tile).square().mean(1)
    torch.testing.assert_close(attention_term(tile, patches, attention), expected)
    torch.testing.assert_close(attention_term(tile, patches, 7 * attention), expected)


def test_layers_are_averaged_and_attention_looks_at_the_last() -> None:
    student = Answer({}, {"a0": random(3, 4, 4, 4), "a1": random(3, 4, 4, 4, seed=1), "tile": random(3, 5, seed=2)})
    teacher = Answer({}, {"b0": random(3, 6, 2, 2, seed=3), "b1": random(3, 6, 2, 2, seed=4)})
    attention = random(3, 2, 2, seed=5).abs()
    loss = CrossResolution(taps={"a0": "b0", "a1": "b1"}, tile="tile", attention="attention", attention_weight=0.5)
    assert loss.student_taps() == ("a0", "a1", "tile") and loss.teacher_taps() == ("b0", "b1")
    memory = memory_of(loss, student, teacher)
    found = loss(make_step(student, teacher, extras={"attention": attention}), memory)
    layers = [
        CrossResolution(taps={f"a{number}": f"b{number}"})(make_step(student, teacher), memory) for number in range(2)
    ]
    tile = memory.tile(student.features["tile"])
    term = attention_term(tile, teacher.features["b1"], attention)
    torch.testing.assert_close(found, (layers[0] + layers[1]) / 2 + 0.5 * term)


def test_patches_that_do_not_count_are_left_out() -> None:
    student, teacher = Answer({}, {"a": random(3, 4, 4, 4)}), Answer({}, {"b": random(3, 4, 2, 2, seed=1)})
    valid = torch.ones(3, 2, 2, dtype=torch.bool)
    valid[:, 1, 1] = False
    changed = student.features["a"].clone()
    changed[:, :, 2:, 2:] += 3
    loss = CrossResolution(taps={"a": "b"})
    memory = memory_of(loss, student, teacher)
    first = loss(make_step(student, teacher, valid=valid), memory)
    torch.testing.assert_close(first, loss(make_step(Answer({}, {"a": changed}), teacher, valid=valid), memory))


def test_what_does_not_fit_is_said() -> None:
    student, teacher = Answer({}, {"a": random(3, 4, 6, 6)}), Answer({}, {"b": random(3, 4, 4, 4)})
    with pytest.raises(InputError, match="whole multiple"):
        CrossResolution(taps={"a": "b"}).prepare(make_setup(student, teacher))
    with pytest.raises(ValidationError, match="both tile and attention"):
        CrossResolution(attention="attention")
