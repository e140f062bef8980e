import pytest
import torch
from torch import nn

from edgekd.errors import InputError
from edgekd.losses.feature.projector import make_projector, match_size, project


@pytest.mark.parametrize(
    ("mine", "yours", "made"),
    [
        ((2, 4), (2, 6), nn.Linear),
        ((2, 5, 4), (2, 5, 6), nn.Linear),
        ((2, 4, 9), (2, 6, 9), nn.Conv1d),
        ((2, 4, 8, 8), (2, 6, 4, 8), nn.Conv2d),
    ],
)
def test_it_takes_the_student_to_the_teacher_s_shape(mine: tuple[int, ...], yours: tuple[int, ...], made: type) -> None:
    student, teacher = torch.randn(mine), torch.randn(yours)
    projector = make_projector("hint", "a~b", student, teacher, "auto")
    assert isinstance(projector, made)
    first, second = project(student, teacher, projector)
    assert first.shape == second.shape


def test_equal_widths_need_none_unless_it_is_asked_for() -> None:
    feature = torch.randn(2, 4)
    assert make_projector("hint", "a~b", feature, feature, "auto") is None
    assert make_projector("hint", "a~b", feature, feature, "none") is None
    assert isinstance(make_projector("hint", "a~b", feature, feature, "linear"), nn.Linear)


@pytest.mark.parametrize(
    ("mine", "yours", "projector", "says"),
    [
        ((2, 4), (2, 6), "none", 'projector = "linear"'),
        ((2, 4), (2, 4, 3, 3), "auto", "both maps"),
        ((2, 5, 4), (2, 7, 6), "auto", "equal length"),
    ],
)
def test_what_cannot_fit_is_refused(mine: tuple[int, ...], yours: tuple[int, ...], projector: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        make_projector("hint", "a~b", torch.randn(mine), torch.randn(yours), projector)  # type: ignore[arg-type]
    assert str(mine[1:]) in str(caught.value) and str(yours[1:]) in str(caught.value)


def test_the_larger_map_is_averaged_to_the_smaller_one_axis_by_axis() -> None:
    student, teacher = torch.randn(2, 3, 8, 2), torch.randn(2, 3, 4, 4)
    mine, yours = match_size(student, teacher)
    torch.testing.assert_close(mine, student.reshape(2, 3, 4, 2, 2).mean(3))
    torch.testing.assert_close(yours, teacher.reshape(2, 3, 4, 2, 2).mean(4))


def test_series_are_averaged_and_vectors_stay() -> None:
    series = torch.randn(2, 3, 8)
    torch.testing.assert_close(match_size(series, torch.randn(2, 3, 4))[0], series.reshape(2, 3, 4, 2).mean(3))
    vector = torch.randn(2, 3)
    assert match_size(vector, vector)[0] is vector


def test_it_lives_in_the_features_precision() -> None:
    made = make_projector("hint", "a~b", torch.randn(2, 4).double(), torch.randn(2, 6), "auto")
    assert made is not None and next(made.parameters()).dtype == torch.float64
