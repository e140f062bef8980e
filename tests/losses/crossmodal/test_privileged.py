import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.privileged import Privileged, feature_distance

from ..steps import random


@pytest.mark.parametrize("size", [(2, 6), (2, 5, 6)])
def test_the_distance_is_the_mean_square_of_a_sample(size: tuple[int, ...]) -> None:
    mine, yours = random(*size), random(*size, seed=1)
    expected = torch.stack([functional.mse_loss(a, b) for a, b in zip(mine, yours, strict=True)])
    torch.testing.assert_close(feature_distance(mine, yours), expected)


def test_positions_that_do_not_count_are_left_out() -> None:
    mine, yours = random(2, 6, 3, 4), random(2, 6, 3, 4, seed=1)
    valid = torch.arange(12).reshape(3, 4).expand(2, 3, 4) % 3 > 0
    expected = torch.stack([functional.mse_loss(mine[i][:, valid[i]], yours[i][:, valid[i]]) for i in range(2)])
    torch.testing.assert_close(feature_distance(mine, yours, valid), expected)
    tokens = feature_distance(mine.flatten(2).mT, yours.flatten(2).mT, valid.flatten(1))
    torch.testing.assert_close(tokens, expected)


def step_of(size: tuple[int, ...] = (2, 4), **fields: object) -> Step:
    mine = Answer({"output": random(*size)}, {"penultimate": random(2, 6, seed=1)})
    yours = Answer({"output": random(*size, seed=2)}, {"penultimate": random(2, 6, seed=3)})
    return Step(mine, {"t": yours}, yours, **fields)  # type: ignore[arg-type]


def test_it_is_the_sum_of_both_terms_with_their_weights() -> None:
    step = step_of()
    mine, yours = step.student, step.the_teacher
    kl = functional.kl_div(
        (mine.output() / 4).log_softmax(1), (yours.output() / 4).log_softmax(1), log_target=True, reduction="none"
    ).sum(1)
    squares = (mine.features["penultimate"] - yours.features["penultimate"]).square().mean(1)
    torch.testing.assert_close(Privileged()(step), squares + 0.3 * 16 * kl)


def test_one_logit_is_a_yes_or_a_no() -> None:
    step = step_of((2, 1))
    p, q = (torch.sigmoid(one.output()[:, 0]) for one in (step.the_teacher, step.student))
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    loss = Privileged.model_validate(
        {"kind": "privileged", "feature_weight": 0.0, "logit_weight": 1.0, "temperature": 1.0}
    )
    torch.testing.assert_close(loss(step), kl)


def test_answers_of_tokens_are_averaged_over_those_that_count() -> None:
    step = step_of((2, 5, 4), class_axis=-1)
    valid = torch.tensor([[True, True, False, False, False]] * 2)
    loss = Privileged.model_validate({"kind": "privileged", "feature_weight": 0.0})
    short = [Answer({"output": one.output()[:, :2]}, one.features) for one in (step.student, step.the_teacher)]
    torch.testing.assert_close(
        loss(Step(**{**step.__dict__, "valid": valid})), loss(Step(short[0], {}, short[1], class_axis=-1))
    )


def test_another_width_is_projected_or_refused() -> None:
    mine, yours = Answer({"output": random(2, 4)}, {"penultimate": random(2, 6)}), random(2, 8, seed=1)
    setup = Setup(mine, {"t": Answer(mine.outputs, {"penultimate": yours})}, samples=2)
    memory = Privileged().prepare(setup)
    assert memory is not None
    (projector,) = memory.pairs.values()  # type: ignore[operator, union-attr]
    loss = Privileged.model_validate({"kind": "privileged", "logit_weight": 0.0})
    expected = (projector(mine.features["penultimate"]) - yours).square().mean(1)
    torch.testing.assert_close(loss(Step(mine, {}, setup.teacher), memory), expected)
    with pytest.raises(InputError, match=r"\(6,\), the teacher's \(8,\)"):
        Privileged(projector="none").prepare(setup)
