import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer
from edgekd.losses.logit.cosine_infonce import CosineInfoNce, cosine_distance, sparsemax_contrast

from ..steps import make_setup, make_step, random

STUDENT, TEACHER = random(3, 4), random(3, 4, seed=1)


def project_to_simplex(scores: torch.Tensor) -> torch.Tensor:
    """Return the nearest point of the simplex by bisection of the threshold."""
    low, high = scores.min() - 1, scores.max()
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (scores - middle).clamp(min=0).sum() > 1 else (low, middle)
    return (scores - low).clamp(min=0)


def test_it_is_cosine_distance_plus_cross_entropy_of_similarities() -> None:
    step = make_step(Answer({"output": STUDENT}), Answer({"output": TEACHER}))
    similarity = functional.cosine_similarity(STUDENT[:, None], TEACHER[None], dim=-1)
    expected = 2 * (1 - similarity.diagonal()) + 3 * functional.cross_entropy(
        similarity / 0.2, torch.arange(3), reduction="none"
    )
    loss = CosineInfoNce(alignment=2.0, contrast=3.0, temperature=0.2)  # type: ignore[arg-type]
    torch.testing.assert_close(loss(step), expected)


def test_the_distance_ignores_length() -> None:
    torch.testing.assert_close(cosine_distance(3 * STUDENT, TEACHER), cosine_distance(STUDENT, 7 * TEACHER))


def test_sparsemax_s_gradient_is_the_projection_less_the_positive() -> None:
    scores = random(5, 6, scale=2.0).requires_grad_()
    (gradient,) = torch.autograd.grad(sparsemax_contrast(scores[:, 0], scores).sum(), scores)
    for row in range(5):
        expected = project_to_simplex(scores[row].detach())
        expected[0] -= 1
        torch.testing.assert_close(gradient[row], expected)


def test_sparsemax_leaves_far_negatives_alone_and_vanishes_with_a_clear_winner() -> None:
    scores = torch.tensor([[1.0, 0.9, -5.0], [4.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    value = sparsemax_contrast(scores[:, 0], scores)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    assert value[0] > 0 and gradient[0, 1] > 0 and gradient[0, 2] == 0
    assert value[1] == 0 and (gradient[1] == 0).all()


@pytest.mark.parametrize("over", ["softmax", "sparsemax"])
def test_embeddings_of_other_processes_are_negatives_and_those_that_do_not_count_are_none(over: str) -> None:
    loss = CosineInfoNce(over=over, temperature=1.0)  # type: ignore[arg-type]
    student, teacher = Answer({"output": STUDENT}), Answer({"output": TEACHER})
    alone = loss(make_step(student, teacher))
    other = STUDENT  # as near as can be

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, torch.zeros_like(tensor) if tensor.dtype == torch.bool else other])

    assert (loss(make_step(student, teacher, gather=gather)) > alone + 1e-3).all()
    valid = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(loss(make_step(student, teacher, gather=gather, valid=valid)), alone)


def test_widths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 4\).*\(3, 5\)"):
        CosineInfoNce().prepare(make_setup(Answer({"output": STUDENT}), Answer({"output": random(3, 5)})))
