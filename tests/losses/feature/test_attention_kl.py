import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.feature.attention_kl import AttentionKl


def _step(student: torch.Tensor, teacher: torch.Tensor, **fields: object) -> Step:
    mine, yours = Answer({}, {"penultimate": student}), Answer({}, {"penultimate": teacher})
    return Step(mine, {"t": yours}, yours, **fields)  # type: ignore[arg-type]


def test_it_is_torch_s_divergence_of_every_row() -> None:
    student, teacher = (torch.randn(2, 3, 4, 5).softmax(-1) for _ in range(2))
    expected = functional.kl_div(student.log().reshape(24, 5), teacher.reshape(24, 5), reduction="batchmean")
    torch.testing.assert_close(AttentionKl()(_step(student, teacher)).mean(), expected)


def test_scores_and_their_probabilities_are_the_same() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    of_scores = AttentionKl(given="scores", rows=(2, None), columns=(0, 2))(_step(student, teacher))
    of_shares = AttentionKl(rows=(2, None), columns=(0, 2))(_step(student.softmax(-1), teacher.softmax(-1)))
    torch.testing.assert_close(of_scores, of_shares)


def test_only_the_block_counts_and_its_rows_sum_to_one() -> None:
    student, teacher = torch.randn(1, 1, 5, 5), torch.randn(1, 1, 5, 5)
    block = AttentionKl(given="scores", rows=(3, None), columns=(0, 3))
    alone = AttentionKl(given="scores")(_step(student[:, :, 3:, :3], teacher[:, :, 3:, :3]))
    torch.testing.assert_close(block(_step(student, teacher)), alone)


def test_unequal_numbers_of_heads_are_averaged() -> None:
    student, teacher = torch.randn(2, 3, 4, 4).softmax(-1), torch.randn(2, 5, 4, 4).softmax(-1)
    expected = AttentionKl()(_step(student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)))
    torch.testing.assert_close(AttentionKl()(_step(student, teacher)), expected)


def test_padded_tokens_neither_ask_nor_answer() -> None:
    student, teacher = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    valid = torch.tensor([[True] * 3 + [False] * 2] * 2)
    loss = AttentionKl(given="scores")
    torch.testing.assert_close(
        loss(_step(student, teacher, valid=valid)), loss(_step(student[:, :, :3, :3], teacher[:, :, :3, :3]))
    )
    assert not loss(_step(student, teacher, valid=torch.zeros(2, 5, dtype=torch.bool))).any()


def test_certain_attention_stays_finite() -> None:
    student = torch.eye(4)[None, None].clone().requires_grad_()
    value = AttentionKl()(_step(student, torch.eye(4).flip(0)[None, None]))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("mine", "yours", "says"), [((2, 4), (2, 4), "heads, queries, keys"), ((2, 1, 5, 5), (2, 1, 6, 6), "same tokens")]
)
def test_other_tensors_are_refused(mine: tuple[int, ...], yours: tuple[int, ...], says: str) -> None:
    step = _step(torch.randn(mine), torch.randn(yours))
    with pytest.raises(InputError, match=says):
        AttentionKl().prepare(Setup(step.student, step.teachers, 2))


def test_an_empty_block_is_refused() -> None:
    step = _step(torch.randn(2, 1, 5, 5), torch.randn(2, 1, 5, 5))
    with pytest.raises(InputError, match="widen"):
        AttentionKl(rows=(5, None)).prepare(Setup(step.student, step.teachers, 2))
