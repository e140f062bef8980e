from typing import Any

import torch

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.committee.question_answer import QuestionAnswer, Teller, answer_distance

from ..steps import make_step, random

TAPS = ("a/mid", "b/mid")


def cast(loss: QuestionAnswer, **features: Any) -> tuple[Step, Any]:
    torch.manual_seed(0)
    student = Answer({"output": random(3, 4)}, {"penultimate": random(3, 6, seed=1)})
    teachers = {
        "a": Answer({"output": random(3, 4)}, {"a/mid": features.get("a", random(3, 8, 2, 2, seed=2))}),
        "b": Answer({"output": random(3, 4)}, {"b/mid": features.get("b", random(3, 5, seed=3))}),
    }
    memory = loss.prepare(Setup(student, teachers, samples=3)).double()
    merged = Answer(
        teachers["a"].outputs, {tap: one.features[tap] for tap, one in zip(TAPS, teachers.values(), strict=True)}
    )
    return make_step(student, merged, teachers=teachers), memory


def test_equal_directions_are_no_distance_and_opposite_ones_four() -> None:
    student = random(1, 5, seed=1)
    answers = torch.stack([3 * student, -student])
    for weights, expected in (((1.0, 0.0), 0.0), ((0.0, 1.0), 4.0), ((0.25, 0.75), 3.0)):
        value = answer_distance(student, answers, torch.tensor(weights, dtype=torch.float64)[:, None].log())
        torch.testing.assert_close(value, torch.full_like(value, expected), atol=1e-9, rtol=0)


def test_teachers_of_any_width_and_shape_answer() -> None:
    loss = QuestionAnswer(taps=TAPS)
    step, memory = cast(loss)
    value = loss(step, memory)
    assert value.shape == (3,) and (value >= 0).all() and (value <= 4).all()


def test_a_teacher_that_was_not_run_has_no_part() -> None:
    loss = QuestionAnswer(taps=TAPS)
    step, memory = cast(loss, b=random(3, 5, seed=3) * torch.tensor([[1.0], [0.0], [1.0]]))
    student = step.student.features["penultimate"]
    answer = memory.tellers[0](student, step.the_teacher.features["a/mid"].mean((2, 3)))
    expected = answer_distance(student[1:2], answer[None, 1:2], torch.zeros(1, 1))
    torch.testing.assert_close(loss(step, memory)[1:2], expected)
    without = Answer(step.the_teacher.outputs, {"a/mid": step.the_teacher.features["a/mid"]})
    torch.testing.assert_close(loss(Step(**{**step.__dict__, "teacher": without}), memory)[1:2], expected)
    nobody = Answer(step.the_teacher.outputs, {})
    assert not loss(Step(**{**step.__dict__, "teacher": nobody}), memory).any()


def test_the_student_is_pulled_but_its_question_and_importance_are_only_read() -> None:
    loss = QuestionAnswer(taps=TAPS)
    step, memory = cast(loss)
    feature = step.student.features["penultimate"].requires_grad_()
    answers = torch.stack(
        [
            teller(feature, seen.flatten(2).mean(2) if seen.ndim > 2 else seen).detach()
            for teller, seen in zip(memory.tellers, step.the_teacher.features.values(), strict=True)
        ]
    )
    log_pi = memory.gate(feature).log_softmax(1).T.detach()
    (expected,) = torch.autograd.grad(answer_distance(feature, answers, log_pi).sum(), feature)
    (found,) = torch.autograd.grad(loss(step, memory).sum(), feature)
    torch.testing.assert_close(found, expected)


def test_an_answer_without_the_teacher_says_nothing_of_the_question() -> None:
    """The question scales the teacher's channels: where they are 0, the answer is the same to all questions."""
    teller = Teller(6, 8, 4)
    silent = torch.zeros(3, 8)
    answer = teller(torch.randn(3, 6), silent)
    torch.testing.assert_close(answer, answer[:1].expand(3, -1))
    assert not torch.allclose(*(teller(torch.randn(1, 6), torch.arange(8.0)[None]) for _ in range(2)))


def test_its_own_loss_balances_the_load() -> None:
    loss = QuestionAnswer(taps=TAPS, balance=1.0)
    step, memory = cast(loss)
    with torch.no_grad():
        memory.gate.weight.zero_()
        memory.gate.bias.zero_()
    assert loss.own_loss(step, memory).abs() < 1e-9
    with torch.no_grad():
        memory.gate.bias[0] = 5
    assert loss.own_loss(step, memory) > 0.5
