"""What holds for every committee: registering one enrols it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.losses import COMMITTEES, Answer, Committee, Setup, Step

from .steps import C, N, make_step, random

TEACHERS = ("first", "second", "third")


@pytest.fixture(params=sorted(COMMITTEES))
def committee(request: pytest.FixtureRequest) -> Committee:
    return COMMITTEES[request.param].example()


def cast(committee: Committee, size: tuple[int, ...] = (N, C), **changes: Any) -> tuple[Step, Any]:
    """Return a step of three teachers, and the committee's memory."""
    torch.manual_seed(0)
    student = Answer({"output": random(*size, seed=1)}, {tap: random(N, C, seed=2) for tap in committee.student_taps()})
    teachers = {name: Answer({"output": random(*size, seed=10 + k)}) for k, name in enumerate(TEACHERS)}
    if len(size) > 2:
        changes.setdefault("targets", torch.randint(0, 2, (N, *size[2:]), generator=torch.Generator().manual_seed(1)))
    step = make_step(student, student, teachers=teachers, **{"progress": 0.9, **changes})
    memory = committee.prepare(Setup(student, teachers, samples=N, classes=C))
    return step, None if memory is None else memory.double()


def main(committee: Committee, step: Step, memory: Any) -> Tensor:
    return committee(step, memory).output()


def changed(step: Step, **fields: Any) -> Step:
    return Step(**{**step.__dict__, **fields})


def test_it_says_what_it_is(committee: Committee) -> None:
    assert committee.title and committee.source and committee.applies and committee.evidence in set("CASD")
    assert committee.kind == committee.kind.lower() and "_" not in committee.kind and committee.capability == "C04"
    assert type(committee).model_validate(committee.model_dump(mode="json")) == committee
    assert all(field.description for name, field in type(committee).model_fields.items() if name != "kind")


@pytest.mark.parametrize("size", [(N, C), (N, C, 6, 6), (N, 1), (N, 1, 6, 6)])
@pytest.mark.parametrize("labelled", [True, False])
def test_its_answer_has_the_teachers_shape(committee: Committee, size: tuple[int, ...], labelled: bool) -> None:
    changes = {} if labelled else {"targets": None}
    if size == (N, 1):
        changes = {"targets": torch.tensor([0, 1, 1])} if labelled else changes
    step, memory = cast(committee, size, **changes)
    answer = committee(step, memory)
    assert answer.output().shape == size and torch.isfinite(answer.output()).all()
    assert list(answer.outputs) == ["output"]


def test_equal_teachers_are_repeated(committee: Committee) -> None:
    step, memory = cast(committee, progress=0.0)
    same = step.teachers["first"]
    step = changed(step, teachers=dict.fromkeys(TEACHERS, same))
    torch.testing.assert_close(main(committee, step, memory), same.output())


def test_large_half_precision_answers_stay_finite(committee: Committee) -> None:
    step, memory = cast(committee)
    memory = None if memory is None else memory.float()
    big = {
        name: Answer({"output": (50 * answer.output().sign()).to(torch.bfloat16)})
        for name, answer in step.teachers.items()
    }
    features = {tap: (50 * value.sign()).to(torch.bfloat16) for tap, value in step.student.features.items()}
    step = changed(step, teachers=big, student=Answer({"output": big["first"].output()}, features))
    answer = committee(step, memory)
    assert answer.output().dtype == torch.float32 and torch.isfinite(answer.output()).all()
    loss = committee.loss(step, answer, memory)
    if loss is not None:
        gradients = torch.autograd.grad(loss, list(memory.parameters()), allow_unused=True)
        assert torch.isfinite(loss) and all(
            gradient is None or torch.isfinite(gradient).all() for gradient in gradients
        )


def test_no_gradient_reaches_the_teachers_or_the_student(committee: Committee) -> None:
    step, memory = cast(committee)
    leaves = [answer.output().requires_grad_() for answer in (*step.teachers.values(), step.student)]
    leaves += [feature.requires_grad_() for feature in step.student.features.values()]
    answer = committee(step, memory)
    assert not answer.output().requires_grad
    loss = committee.loss(step, answer, memory)
    if loss is not None:
        assert all(gradient is None for gradient in torch.autograd.grad(loss, leaves, allow_unused=True))


def test_the_order_of_the_samples_does_not_matter(committee: Committee) -> None:
    step, memory = cast(committee)
    turn = torch.tensor([2, 0, 1])

    def turned(answer: Answer) -> Answer:
        return Answer(
            {name: value[turn] for name, value in answer.outputs.items()},
            {name: value[turn] for name, value in answer.features.items()},
        )

    assert step.targets is not None and step.sample_ids is not None
    other = changed(
        step, student=turned(step.student), teachers={name: turned(one) for name, one in step.teachers.items()},
        targets=step.targets[turn], sample_ids=step.sample_ids[turn],
    )  # fmt: skip
    first, second = copy.deepcopy(memory), copy.deepcopy(memory)
    torch.testing.assert_close(main(committee, step, first)[turn], main(committee, other, second))
    if memory is not None:
        assert all(
            torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        )


def test_a_teacher_that_was_not_run_on_a_sample_has_no_part_in_it(committee: Committee) -> None:
    step, memory = cast(committee, progress=0.0)
    outputs = {name: answer.output().clone() for name, answer in step.teachers.items()}
    outputs["first"][0] = outputs["second"][0] = 0
    outputs["third"][1] = 0
    step = changed(step, teachers={name: Answer({"output": output}) for name, output in outputs.items()})
    answer = main(committee, step, memory)
    torch.testing.assert_close(answer[0], outputs["third"][0])
    assert torch.isfinite(answer).all()


def test_where_no_teacher_answered_all_classes_are_alike(committee: Committee) -> None:
    step, memory = cast(committee, progress=0.0)
    outputs = {name: answer.output() * torch.tensor([[1.0], [0.0], [1.0]]) for name, answer in step.teachers.items()}
    step = changed(step, teachers={name: Answer({"output": output}) for name, output in outputs.items()})
    answer = main(committee, step, memory)[1].softmax(0)
    torch.testing.assert_close(answer, torch.full_like(answer, 1 / C))


def test_saved_and_loaded_it_takes_the_same_next_step(committee: Committee) -> None:
    step, memory = cast(committee)
    _, other = cast(committee)
    if memory is None:
        pytest.skip("it keeps nothing")
    committee(step, memory)
    committee.end_epoch(memory, 5)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter += 0.1
    other.load_state_dict(memory.state_dict())
    assert torch.equal(main(committee, step, memory), main(committee, step, other))
    ids = torch.arange(N)
    mine, yours = committee.wanted(ids, memory), committee.wanted(ids, other)
    assert (mine is None) == (yours is None)
    assert mine is None or all(torch.equal(mine[name], yours[name]) for name in TEACHERS)


def test_every_sample_is_answered_by_someone(committee: Committee) -> None:
    step, memory = cast(committee)
    for epoch in range(3):
        wanted = committee.wanted(torch.arange(N), memory)
        if wanted is not None:
            assert set(wanted) == set(TEACHERS) and torch.stack(list(wanted.values())).any(0).all()
        committee(step, memory)
        committee.end_epoch(memory, epoch)


def test_its_own_loss_trains_its_memory(committee: Committee) -> None:
    step, memory = cast(committee)
    loss = committee.loss(step, committee(step, memory), memory)
    if loss is None:
        assert memory is None or not list(memory.parameters()), "parameters that nothing trains"
        return
    gradients = torch.autograd.grad(loss, list(memory.parameters()))
    assert loss.ndim == 0 and any(gradient.abs().max() > 1e-9 for gradient in gradients)
