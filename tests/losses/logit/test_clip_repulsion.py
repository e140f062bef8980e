import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup
from edgekd.losses.logit.clip_repulsion import ClipRepulsion, clip_repulsion, contrastive, similarities, split_kl

from ..steps import make_step, random


def test_the_parts_are_the_diagonal_and_the_rest_of_the_rows() -> None:
    student, teacher = random(4, 4), random(4, 4, seed=1)
    p, q = teacher.softmax(1), student.softmax(1)
    terms = [[float(p[i, j] * math.log(p[i, j] / q[i, j])) for j in range(4)] for i in range(4)]
    diagonal, rest = split_kl(student, teacher)
    assert math.isclose(float(diagonal), sum(terms[i][i] for i in range(4)) / 4)
    assert math.isclose(float(rest), sum(terms[i][j] for i in range(4) for j in range(4) if i != j) / 4)


def test_with_beta_one_it_is_the_mean_kl_of_rows_and_columns() -> None:
    student, teacher = random(4, 4), random(4, 4, seed=1)
    rows, columns = (
        functional.kl_div(s.log_softmax(1), t.log_softmax(1), log_target=True, reduction="batchmean")
        for s, t in ((student, teacher), (student.T, teacher.T))
    )
    torch.testing.assert_close(clip_repulsion(student, teacher, 1.0), (rows + columns) / 2)


def test_a_negative_beta_drives_away_until_the_floor() -> None:
    teacher = torch.tensor([[1.0, 2.0], [2.0, 1.0]])

    def gradient_of(confusion: float, beta: float) -> Tensor:
        student = torch.tensor([[1.0, confusion], [confusion, 1.0]], requires_grad=True)
        return torch.autograd.grad(clip_repulsion(student, teacher, beta), student)[0]

    assert gradient_of(0.0, 1.0)[0, 1] < 0  # more like the teacher: the off-diagonal rises
    assert gradient_of(0.0, -3.0)[0, 1] > 0  # away from it
    far = torch.tensor([[1.0, -30.0], [-30.0, 1.0]])
    diagonal = (split_kl(far, teacher)[0] + split_kl(far.T, teacher.T)[0]) / 2
    torch.testing.assert_close(clip_repulsion(far, teacher, -0.8), diagonal - 5)
    torch.testing.assert_close(gradient_of(-30.0, -0.8), gradient_of(-30.0, 0.0))


def test_similarities_are_cosines() -> None:
    image, text = random(3, 5), random(3, 5, seed=1)
    expected = functional.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(similarities(image, text), expected)


def test_the_contrastive_loss_wants_the_diagonal() -> None:
    assert contrastive(50 * torch.eye(4)) < 1e-6
    assert math.isclose(float(contrastive(torch.zeros(4, 4))), math.log(4), rel_tol=1e-6)


def two_outputs(batch: int, width: int, seed: int) -> Answer:
    return Answer({"image": random(batch, width, seed=seed), "text": random(batch, width, seed=seed + 9)})


def test_the_first_two_outputs_are_compared_and_beta_falls() -> None:
    student, teacher, loss = two_outputs(3, 4, 0), two_outputs(3, 6, 1), ClipRepulsion()
    for progress, beta in ((0.0, 2.0), (0.5, 0.6), (1.0, -0.8)):
        expected = clip_repulsion(
            similarities(student.outputs["image"], student.outputs["text"]) / 0.07,
            similarities(teacher.outputs["image"], teacher.outputs["text"]) / 0.07,
            beta,
        )
        torch.testing.assert_close(loss(make_step(student, teacher, progress=progress)), expected)


def test_the_batch_is_that_of_all_processes() -> None:
    student, teacher, loss = (
        two_outputs(3, 4, 0),
        two_outputs(3, 4, 1),
        ClipRepulsion.model_validate({"contrastive": 0.5}),
    )
    twice = [
        Answer({name: torch.cat([tensor, tensor]) for name, tensor in each.outputs.items()})
        for each in (student, teacher)
    ]
    found = loss(make_step(student, teacher, gather=lambda tensor: torch.cat([tensor, tensor])))
    torch.testing.assert_close(found, loss(make_step(*twice)))
    assert not torch.isclose(found, loss(make_step(student, teacher)))


def test_missing_or_unequal_embeddings_are_refused() -> None:
    def prepare(student: Answer, **fields: str) -> None:
        ClipRepulsion(**fields).prepare(Setup(student, {"teacher": two_outputs(3, 4, 0)}, samples=3))  # type: ignore[arg-type]

    prepare(two_outputs(3, 2, 0))
    with pytest.raises(InputError, match="student has the outputs output; name"):
        prepare(Answer({"output": torch.zeros(3, 4)}))
    with pytest.raises(InputError, match="name"):
        prepare(two_outputs(3, 4, 0), text="words")
    with pytest.raises(InputError, match=r"\(3, 4\), the texts' \(3, 5\)"):
        prepare(Answer({"image": torch.zeros(3, 4), "text": torch.zeros(3, 5)}))
