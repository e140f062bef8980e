import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer
from edgekd.losses.weight.teacher_disagreement import TeacherDisagreement, disagreement

from ..steps import make_setup, make_step, random


def test_it_is_the_mean_variance_of_the_probabilities() -> None:
    probabilities = random(3, 5, 4).softmax(-1)
    for n in range(5):
        values = [
            sum((probabilities[k, n, c] - probabilities[:, n, c].mean()) ** 2 for k in range(3)) / 3 for c in range(4)
        ]
        torch.testing.assert_close(disagreement(probabilities)[n], sum(values) / 4)


def test_the_weight_falls_by_the_usual_variance() -> None:
    answers = {name: Answer({"output": random(3, 4, seed=seed)}) for name, seed in (("a", 0), ("b", 1))}
    step = make_step(Answer({}), answers["a"], teachers=answers)
    variance = disagreement(torch.stack([answer.output().softmax(1) for answer in answers.values()]))
    found = TeacherDisagreement()(step, torch.zeros(3))
    torch.testing.assert_close(found, torch.exp(-variance / variance.mean()))


def test_teachers_that_agree_are_trusted_fully() -> None:
    answer = Answer({"output": random(3, 4)})
    step = make_step(Answer({}), answer, teachers={"a": answer, "b": answer})
    assert (TeacherDisagreement()(step, torch.zeros(3)) == 1).all()


def test_one_teacher_is_refused() -> None:
    answer = Answer({"output": random(3, 4)})
    with pytest.raises(InputError, match="two teachers"):
        TeacherDisagreement().prepare(make_setup(answer, answer))
