import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses.feature.positions import as_tokens, counted_positions, extra, mean_where, paired

from ..steps import answers, make_step, random


def test_every_form_becomes_positions() -> None:
    picture = random(2, 3, 4, 5)
    assert torch.equal(as_tokens(picture)[:, 7], picture[:, :, 1, 2])
    assert as_tokens(random(2, 3)).shape == (2, 1, 3)
    series = random(2, 3, 4)
    assert torch.equal(as_tokens(series, "series")[:, 1], series[:, :, 1])
    assert torch.equal(as_tokens(series), series)


def test_pairs_have_the_same_positions() -> None:
    mine, yours = paired("kind", random(2, 3, 8, 4), random(2, 5, 4, 4))
    assert mine.shape == (2, 3, 4, 4) and yours.shape == (2, 5, 4, 4)
    mine, yours = paired("kind", random(2, 3, 16), random(2, 5, 16))  # series
    assert mine.shape == (2, 16, 3) and yours.shape == (2, 16, 5)
    mine, yours = paired("kind", random(2, 9, 3), random(2, 9, 5))  # tokens
    assert mine.shape == (2, 9, 3) and yours.shape == (2, 9, 5)
    with pytest.raises(InputError, match=r"\(9, 3\).*\(8, 5\)"):
        paired("kind", random(2, 9, 3), random(2, 8, 5))


def test_valid_speaks_of_samples_positions_or_maps_of_another_size() -> None:
    class Bare:
        student_taps = teacher_taps = staticmethod(lambda: ())

    student, teacher = answers(Bare(), seed=0)
    tokens, picture = random(3, 4, 2), random(3, 2, 2, 2)
    samples = torch.tensor([True, False, True])
    assert counted_positions(make_step(student, teacher), tokens).all()
    assert counted_positions(make_step(student, teacher, valid=samples), tokens).sum(1).tolist() == [4, 0, 4]
    some = torch.tensor([[True, True, False, False]] * 3)
    assert torch.equal(counted_positions(make_step(student, teacher, valid=some), tokens), some)
    below = torch.zeros(3, 4, 4, dtype=torch.bool)
    below[:, :2, :2], below[:, 2:, 3] = True, True  # the whole first quarter, half of the last
    assert counted_positions(make_step(student, teacher, valid=below), picture)[0].tolist() == [
        True,
        False,
        False,
        True,
    ]


def test_a_mean_over_nothing_is_zero() -> None:
    values, counted = random(2, 3, 4), torch.tensor([[True, False, True], [False, False, False]])
    found = mean_where(values, counted)
    torch.testing.assert_close(found[0], values[0, [0, 2]].mean(0))
    assert not found[1].any()


def test_an_array_that_is_missing_is_named() -> None:
    class Bare:
        student_taps = teacher_taps = staticmethod(lambda: ())

    with pytest.raises(InputError, match="no array 'grid'.*confidence"):
        extra(make_step(*answers(Bare(), seed=0)), "grid", "occupancy")
