import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup
from edgekd.losses.feature.focused_hint import FocusedHint, activation_focus, attention_focus, focused_hint

from ..steps import make_step, random


def test_it_is_the_weighted_mean_of_the_squares() -> None:
    student, teacher, focus = random(2, 3, 2, 2), random(2, 3, 2, 2, seed=1), random(2, 4, seed=2).abs()
    for sample in range(2):
        squares = [((student - teacher)[sample, :, i, j] ** 2).mean() for i in range(2) for j in range(2)]
        scaled = focus[sample] / focus[sample].mean()
        expected = sum(m**2 * d for m, d in zip(scaled, squares, strict=True)) / scaled.sum()
        torch.testing.assert_close(focused_hint(student, teacher, focus)[sample], expected)
    same = focused_hint(student, teacher, torch.ones(2, 4))
    torch.testing.assert_close(same, (student - teacher).square().flatten(1).mean(1))


def test_only_positions_that_the_teacher_looks_at_count() -> None:
    student, teacher = random(1, 5, 3), random(1, 5, 3, seed=1)
    focus = torch.tensor([[0.0, 1.0, 0.0, 3.0, 0.0]])
    other = student.clone()
    other[:, [0, 2, 4]] += 7
    torch.testing.assert_close(focused_hint(student, teacher, focus), focused_hint(other, teacher, focus))


def test_maps_of_any_size_and_strength_join_with_equal_share() -> None:
    small = torch.zeros(1, 2, 2, 2).double()
    small[0, :, 0, 0] = -5  # the upper left quarter
    large = torch.zeros(1, 7, 4, 4).double()
    large[0, :, 3, 3] = 1000
    found = activation_focus([small, large], (4, 4)).reshape(4, 4)
    torch.testing.assert_close(found.mean(), torch.tensor(1.0).double())
    assert found[0, 0] > 1.5 and found[3, 3] == 8 and found[0, 3] < 0.5
    torch.testing.assert_close(activation_focus([small, 100 * large], (4, 4)).reshape(4, 4), found)


def test_a_peak_is_not_lost_in_a_smaller_grid_and_padding_takes_no_share() -> None:
    fine = torch.zeros(1, 1, 16, 16).double()
    fine[0, 0, [0, 3], [0, 3]] = 1
    assert activation_focus([fine], (4, 4)).reshape(4, 4)[0, 0] > 4
    left = torch.ones(1, 1, 2, 2).double()
    padded = left.clone()
    padded[..., 1] = 99
    counted = torch.tensor([[True, False, True, False]])
    torch.testing.assert_close(activation_focus([padded], (2, 2), counted), counted.double())


def test_attention_is_what_the_rows_that_count_give_the_columns() -> None:
    attention = random(2, 3, 5, 5).softmax(-1)
    found = attention_focus(attention, slice(3, None), slice(0, 3))
    torch.testing.assert_close(found, attention[:, :, 3:, :3].mean((1, 2)))
    counted = torch.tensor([[True] * 4 + [False], [True] * 5])
    found = attention_focus(attention, slice(3, None), slice(0, 3), counted)
    torch.testing.assert_close(found[0], attention[0, :, 3, :3].mean(0))


def test_maps_of_several_teachers_say_where() -> None:
    loss = FocusedHint(taps={"s": "a"}, focus=("a", "b"))
    assert loss.teacher_taps() == ("a", "a", "b")
    mine = Answer({}, {"s": random(3, 4, 4, 4)})
    first, second = Answer({}, {"a": random(3, 4, 4, 4, seed=1)}), Answer({}, {"b": random(3, 2, 8, 8, seed=2)})
    merged = Answer({}, {**first.features, **second.features})
    teachers = {"first": first, "second": second}
    memory = loss.prepare(Setup(mine, teachers, samples=3))
    focus = activation_focus([first.features["a"], second.features["b"]], (4, 4))
    expected = focused_hint(mine.features["s"], first.features["a"], focus)
    step = make_step(mine, merged, teachers=teachers)
    torch.testing.assert_close(loss(step, memory), expected)


def test_vision_tokens_count_by_the_attention_of_the_text() -> None:
    loss = FocusedHint(taps={"s": "t"}, by="attention", focus=("attention",), rows=(4, None), columns=(0, 4))
    attention = random(3, 2, 6, 6, seed=5).softmax(-1)
    weights = attention[:, :, 4:, :4].mean((1, 2))
    for length in (6, 4):  # all tokens, or the image's alone
        mine = Answer({}, {"s": random(3, length, 5)})
        yours = Answer({}, {"t": random(3, length, 5, seed=1), "attention": attention})
        memory = loss.prepare(Setup(mine, {"teacher": yours}, samples=3))
        found = loss(make_step(mine, yours), memory)
        torch.testing.assert_close(found, focused_hint(mine.features["s"][:, :4], yours.features["t"][:, :4], weights))


@pytest.mark.parametrize(
    "settings, feature, focus, match",
    [
        ({"by": "attention"}, (3, 5, 4), None, r"focus = \[PATH\]"),
        ({"by": "attention", "focus": ("f",)}, (3, 5, 4), (3, 2, 6, 6), "5 tokens are compared"),
        ({"by": "attention", "focus": ("f",)}, (3, 4, 5, 5), (3, 2, 6, 6), r"tokens \(L, D\)"),
        ({"focus": ("f",)}, (3, 4, 5, 5), (3, 4), r"shape \(4,\); choose one that gives a map"),
        ({}, (3, 4), None, r"shape \(4,\); choose one that gives a map"),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, object], feature: tuple[int, ...], focus: tuple[int, ...] | None, match: str
) -> None:
    loss = FocusedHint.model_validate({"taps": {"s": "t"}, **settings})
    features = {"t": random(*feature), **({} if focus is None else {"f": random(*focus)})}
    with pytest.raises(InputError, match=match):
        loss.prepare(Setup(Answer({}, {"s": random(*feature)}), {"teacher": Answer({}, features)}, samples=3))


def test_tokens_of_unequal_number_are_refused() -> None:
    loss = FocusedHint(taps={"s": "t"}, by="attention", focus=("f",))
    teacher = Answer({}, {"t": random(3, 10, 8), "f": random(3, 2, 10, 10)})
    with pytest.raises(InputError, match="the student's feature has 5 tokens, the teacher's 10"):
        loss.prepare(Setup(Answer({}, {"s": random(3, 5, 8)}), {"teacher": teacher}, samples=3))
