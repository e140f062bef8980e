import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer
from edgekd.losses.weight.difficulty import Difficulty, cell_variance, laplacian, student_error, teacher_gap

from ..steps import make_step, random

STUDENT, TEACHER = Answer({"output": random(3, 4)}), Answer({"output": random(3, 4, seed=1)})


def test_the_laplacian_is_zero_on_flat_images_and_constant_on_a_paraboloid() -> None:
    assert (laplacian(torch.full((1, 3, 5, 5), 7.0)) == 0).all()
    x = torch.arange(5.0)
    inner = laplacian((x[:, None] ** 2 + x**2)[None, None])[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 4.0))


def test_the_variance_is_that_of_each_cell() -> None:
    maps = random(2, 8, 8) + 100
    found = cell_variance(maps, 2)
    torch.testing.assert_close(found[1, 0, 1], maps[1, :4, 4:].var(unbiased=False))
    torch.testing.assert_close(cell_variance(maps, 1)[0, 0, 0], maps[0].var(unbiased=False))


def test_the_error_is_one_less_the_probability_of_the_label() -> None:
    step = make_step(STUDENT, TEACHER, targets=torch.tensor([1, -1, 3]))
    p = STUDENT.output().softmax(1)
    first, last = 1 - p[0, 1], 1 - p[2, 3]
    torch.testing.assert_close(student_error(step), torch.stack([first, (first + last) / 2, last]))


def test_the_error_of_values_is_their_distance() -> None:
    targets = random(3, 2, 5, 5, seed=2)
    step = make_step(Answer({"output": random(3, 2, 5, 5)}), TEACHER, targets=targets)
    torch.testing.assert_close(student_error(step), (step.student.output() - targets).abs().mean(1))
    scores = make_step(Answer({"output": random(3)}), TEACHER, targets=torch.zeros(3))
    torch.testing.assert_close(student_error(scores), random(3).abs())


def test_the_gap_is_of_probabilities_for_classes_and_of_outputs_else() -> None:
    step = make_step(STUDENT, TEACHER)
    s, t = STUDENT.output(), TEACHER.output()
    torch.testing.assert_close(teacher_gap(step), (s.softmax(1) - t.softmax(1)).abs().mean(1))
    torch.testing.assert_close(teacher_gap(make_step(STUDENT, TEACHER, targets=None)), (s - t).abs().mean(1))


@pytest.mark.parametrize("strength", [0.7, -0.7])
def test_difficult_samples_count_more_or_less(strength: float) -> None:
    weight = Difficulty(signal="gap", strength=strength)(make_step(STUDENT, TEACHER), torch.zeros(3))
    gap = teacher_gap(make_step(STUDENT, TEACHER))
    expected = torch.exp(strength * (gap - gap.mean()) / gap.std(unbiased=False))
    torch.testing.assert_close(weight, expected)


def test_textured_images_count_more() -> None:
    image = random(3, 1, 8, 8)
    image[1] *= 0.1
    step = make_step(STUDENT, TEACHER, inputs={"numbers": random(3, 2), "image": image})
    weight = Difficulty(signal="laplacian")(step, torch.zeros(3))
    assert weight[1] == weight.min()
    with pytest.raises(InputError, match="is an image"):
        Difficulty(signal="laplacian", input="numbers")(step, torch.zeros(3))
