"""What holds for every loss: registering one enrols it; an exemption needs the equation that shows why."""

import copy

import pytest
import torch
from torch import Tensor

from edgekd.losses import LOSSES, Answer, Loss, Step

from .steps import answers, leaves, make_step, memory_of


def total(value: Tensor) -> Tensor:
    return value.mean()


@pytest.fixture(params=sorted(LOSSES))
def loss(request: pytest.FixtureRequest) -> Loss:
    return LOSSES[request.param].example()


def skip_exempt(loss: Loss, test: str) -> None:
    if test in loss.exempt:
        assert len(loss.exempt[test]) > 10, "an exemption gives the equation that shows why"
        pytest.skip(f"{loss.kind}: {loss.exempt[test]}")


def value_of(loss: Loss, step: Step, memory: object) -> Tensor:
    value = loss(step, memory)  # type: ignore[arg-type]
    expected = value.ndim >= 1 if loss.elementwise else value.ndim == 0
    assert expected, f"{loss.kind}: elementwise is {loss.elementwise}, the shape is {tuple(value.shape)}"
    return value


def test_it_says_what_it_is(loss: Loss) -> None:
    assert loss.title and loss.source and loss.applies and loss.evidence in "CASD" and loss.capability.startswith("C0")
    assert loss.kind == loss.kind.lower() and "_" not in loss.kind
    assert type(loss).model_validate(loss.model_dump(mode="json")) == loss
    assert all(field.description for name, field in type(loss).model_fields.items() if name != "kind")


def test_it_vanishes_with_its_gradient_where_student_and_teacher_are_equal(loss: Loss) -> None:
    skip_exempt(loss, "zero")
    student, _ = answers(loss, seed=3)
    teacher = Answer(
        student.outputs,
        {name: student.features[mine] for name, mine in zip(loss.teacher_taps(), loss.student_taps(), strict=True)},
    )
    student, tensors = leaves(student)
    memory = memory_of(loss, student, teacher)
    value = total(value_of(loss, make_step(student, teacher, loss.shape), memory))
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    assert value.abs() < 1e-6
    assert all(gradient is None or gradient.abs().max() < 1e-5 for gradient in gradients)


def test_its_gradient_is_right(loss: Loss) -> None:
    skip_exempt(loss, "gradient")
    student, teacher = answers(loss, seed=5)
    student, tensors = leaves(student)
    memory = memory_of(loss, student, teacher)
    names, features = list(student.outputs), list(student.features)

    def function(*given: Tensor) -> Tensor:
        made = Answer(dict(zip(names, given, strict=False)), dict(zip(features, given[len(names) :], strict=True)))
        step = make_step(made, teacher, loss.shape)
        return total(value_of(loss, step, copy.deepcopy(memory)))

    assert torch.autograd.gradcheck(function, tuple(tensors), atol=1e-5, rtol=1e-3)
    found = torch.autograd.grad(function(*tensors), tensors, allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 1e-9 for gradient in found), "the student learns nothing"


def test_no_gradient_reaches_the_teacher(loss: Loss) -> None:
    skip_exempt(loss, "teacher")
    student, teacher = answers(loss, seed=7)
    student, _ = leaves(student)
    teacher, wanted = leaves(teacher)
    memory = memory_of(loss, student, teacher)
    value = total(value_of(loss, make_step(student, teacher, loss.shape), memory))
    assert all(gradient is None for gradient in torch.autograd.grad(value, wanted, allow_unused=True))


def test_large_half_precision_values_stay_finite(loss: Loss) -> None:
    student, teacher = answers(loss, seed=9)
    memory = memory_of(loss, student, teacher)
    memory = None if memory is None else memory.float()
    big = [
        Answer(
            {name: (50 * tensor.sign()).to(torch.bfloat16) for name, tensor in answer.outputs.items()},
            {name: (50 * tensor.sign()).to(torch.bfloat16) for name, tensor in answer.features.items()},
        )
        for answer in (student, teacher)
    ]
    student, tensors = leaves(big[0])
    step = make_step(student, big[1], loss.shape, extras={"confidence": torch.tensor([0.9, 0.5, 0.2])})
    value = total(value_of(loss, step, memory))
    assert value.dtype == torch.float32 and torch.isfinite(value)
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    assert all(gradient is None or torch.isfinite(gradient).all() for gradient in gradients)


def test_the_order_of_the_samples_does_not_matter(loss: Loss) -> None:
    skip_exempt(loss, "order")
    student, teacher = answers(loss, seed=11)
    memory = memory_of(loss, student, teacher)
    turn = torch.tensor([2, 0, 1])

    def turned(answer: Answer) -> Answer:
        return Answer(
            {name: tensor[turn] for name, tensor in answer.outputs.items()},
            {name: tensor[turn] for name, tensor in answer.features.items()},
        )

    step = make_step(student, teacher, loss.shape)
    other = make_step(
        turned(student), turned(teacher), loss.shape,
        targets=step.targets[turn], sample_ids=step.sample_ids[turn], groups=step.groups[turn],  # type: ignore[index]
        extras={name: tensor[turn] for name, tensor in step.extras.items()},
    )  # fmt: skip
    first, second = value_of(loss, step, copy.deepcopy(memory)), value_of(loss, other, copy.deepcopy(memory))
    torch.testing.assert_close(first[turn] if loss.elementwise else first, second)


def test_saved_and_loaded_it_takes_the_same_next_step(loss: Loss) -> None:
    student, teacher = answers(loss, seed=13)
    memory, other = memory_of(loss, student, teacher), memory_of(loss, student, teacher)
    if memory is None:
        pytest.skip("it keeps nothing")
    value_of(loss, make_step(student, teacher, loss.shape), memory)
    loss.end_epoch(memory, 0)
    other.load_state_dict(memory.state_dict())
    step = make_step(student, teacher, loss.shape)
    assert torch.equal(value_of(loss, step, memory), value_of(loss, make_step(student, teacher, loss.shape), other))


def test_samples_that_do_not_count_change_nothing(loss: Loss) -> None:
    """Positions that `valid` leaves out have no part in the loss of the others."""
    skip_exempt(loss, "mask")
    student, teacher = answers(loss, seed=15)
    if loss.shape == "tokens":
        valid = torch.ones(3, 5, dtype=torch.bool)
        valid[:, 3:] = False
    elif loss.shape == "mask":
        valid = torch.ones(3, 6, 6, dtype=torch.bool)
        valid[:, :, 4:] = False
    else:
        pytest.skip("its elements are whole samples")
    memory = memory_of(loss, student, teacher)
    changed = Answer(
        {name: torch.where(_spread(valid, tensor), tensor, tensor + 3) for name, tensor in student.outputs.items()},
        {name: torch.where(_spread(valid, tensor), tensor, tensor + 3) for name, tensor in student.features.items()},
    )
    values = [
        value_of(loss, make_step(answer, teacher, loss.shape, valid=valid), copy.deepcopy(memory))
        for answer in (student, changed)
    ]
    if values[0].shape == valid.shape:
        values = [torch.where(valid, value, 0.0) for value in values]
    torch.testing.assert_close(values[0], values[1])


def test_an_importance_needs_elements(loss: Loss) -> None:
    given = {**loss.model_dump(), "importance": "teacher-confidence"}
    if loss.elementwise:
        assert type(loss).model_validate(given).importance is not None
    else:
        with pytest.raises(ValueError, match="one value a batch"):
            type(loss).model_validate(given)


def test_a_sample_that_does_not_count_changes_nothing(loss: Loss) -> None:
    """Neither the loss of the others, nor what trains the memory, nor what the memory keeps."""
    student, teacher = answers(loss, seed=17)
    memory = memory_of(loss, student, teacher)
    valid = torch.tensor([True, True, False])

    def moved(answer: Answer, by: float) -> Answer:
        change = torch.zeros(3, dtype=torch.float64)
        change[2] = by
        outputs, features = (
            {name: tensor + change.reshape(3, *[1] * (tensor.ndim - 1)) for name, tensor in tensors.items()}
            for tensors in (answer.outputs, answer.features)
        )
        return Answer(outputs, features)

    found = []
    for mine, yours in ((student, teacher), (moved(student, 3), moved(teacher, -2))):
        own = copy.deepcopy(memory)
        torch.manual_seed(1)
        step = make_step(mine, yours, loss.shape, valid=valid)
        value = loss(step, own)
        extra = loss.own_loss(step, own)
        kept = {} if own is None else dict(own.state_dict())
        found.append((value[valid] if loss.elementwise else value, torch.zeros(()) if extra is None else extra, kept))
    torch.testing.assert_close(found[0], found[1])


def _spread(valid: Tensor, tensor: Tensor) -> Tensor:
    """Return `valid` (N, L) or (N, H, W) as a mask of tokens (N, L, D) or maps (N, 1, H, W); all True for other shapes."""
    if tensor.ndim == 3 and valid.ndim == 2 and tensor.shape[:2] == valid.shape:
        return valid[:, :, None].expand_as(tensor)
    if tensor.ndim == 4 and valid.ndim == 3 and tensor.shape[2:] == valid.shape[1:]:
        return valid[:, None].expand_as(tensor)
    return torch.ones_like(tensor, dtype=torch.bool)
