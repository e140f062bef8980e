"""What holds for every signal weight: registering one enrols it."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.losses import WEIGHTS, Answer, Setup, SignalWeight, Step
from edgekd.losses.weighting import mean_one

from .steps import C, N, make_step, random

CASES = {
    "samples": ((N, C), (N,)),
    "pixels": ((N, C, 6, 6), (N, 6, 6)),
    "pixels, a loss by sample": ((N, C, 6, 6), (N,)),
    "samples, a loss by position": ((N, C), (N, 5, 5)),
    "binary masks": ((N, 1, 6, 6), (N, 6, 6)),
}


@pytest.fixture(params=sorted(WEIGHTS))
def weight(request: pytest.FixtureRequest) -> SignalWeight:
    return WEIGHTS[request.param].example()


def weight_step(
    weight: SignalWeight, size: tuple[int, ...], dtype: torch.dtype = torch.float64, scale: float = 1.0, **changes: Any
) -> Step:
    """Return a step with all that a weight may look at."""

    def answer(seed: int, taps: tuple[str, ...]) -> Answer:
        features = {tap: random(N, C, seed=seed + 9, dtype=dtype) for tap in taps}
        return Answer({"output": random(*size, seed=seed, scale=scale, dtype=dtype)}, features)

    teachers = {name: answer(seed, weight.teacher_taps()) for name, seed in (("first", 1), ("second", 2))}
    labels = torch.randint(0, 2, (N, *size[2:]), generator=torch.Generator().manual_seed(3))
    labels[0] = -1
    fields: dict[str, Any] = {
        "teachers": teachers,
        "targets": labels,
        "inputs": {"image": random(N, 3, 16, 16, seed=4, dtype=dtype)},
        "extras": {
            "hyperedges": torch.tensor([[1.0, 0, 1], [1, 1, 0], [0, 1, 0]]),
            "modalities": torch.tensor([[1.0, 1], [0, 1], [1, 0]]),
        },
    }
    return make_step(answer(0, weight.student_taps()), teachers["first"], **{**fields, **changes})


def memory_of(weight: SignalWeight, step: Step, dtype: torch.dtype = torch.float64) -> nn.Module | None:
    torch.manual_seed(0)
    memory = weight.prepare(Setup(step.student, step.teachers, samples=N, classes=C, inputs=step.inputs))
    return None if memory is None else memory.to(dtype)


def fresh(step: Step) -> Step:
    return dataclasses.replace(step, generator=torch.Generator().manual_seed(0))


def test_it_says_what_it_is(weight: SignalWeight) -> None:
    assert weight.title and weight.source and weight.applies and weight.evidence in "CASD"
    assert weight.evidence != "D" or weight.variant, "a derived detail is named an edgekd variant"
    assert weight.capability.startswith("C0") and weight.kind == weight.kind.lower() and "_" not in weight.kind
    assert type(weight).model_validate(weight.model_dump(mode="json")) == weight
    assert all(field.description for name, field in type(weight).model_fields.items() if name != "kind")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_finite_not_negative_and_have_a_mean_of_one(
    weight: SignalWeight, case: str, dtype: torch.dtype
) -> None:
    size, shape = CASES[case]
    step, elementwise = weight_step(weight, size, dtype), torch.ones(shape, dtype=dtype)
    found = weight(step, elementwise, memory_of(weight, step, dtype))
    assert found.shape in {shape, (N,)} and found.dtype == dtype
    assert torch.isfinite(found).all() and (found >= 0).all()
    scaled = mean_one(found, elementwise)
    assert scaled.shape == shape
    torch.testing.assert_close(scaled.mean(), torch.ones((), dtype=dtype))


def test_no_gradient_flows_through_it(weight: SignalWeight) -> None:
    step = weight_step(weight, (N, C))
    for answer in (step.student, *step.teachers.values()):
        for tensor in (*answer.outputs.values(), *answer.features.values()):
            tensor.requires_grad_()
    elementwise = torch.ones(N, dtype=torch.float64, requires_grad=True)
    assert not weight(step, elementwise, memory_of(weight, step)).requires_grad


def test_large_half_precision_values_stay_finite(weight: SignalWeight) -> None:
    step = weight_step(weight, (N, C), torch.bfloat16, scale=50.0)
    found = weight(step, torch.ones(N), memory_of(weight, step, torch.float32))
    assert found.dtype == torch.float32 and torch.isfinite(found).all()


def test_it_runs_without_labels(weight: SignalWeight) -> None:
    step = weight_step(weight, (N, C), targets=None)
    found = weight(step, torch.ones(N, dtype=torch.float64), memory_of(weight, step))
    assert torch.isfinite(found).all() and (found >= 0).all()


def test_samples_that_do_not_count_change_nothing(weight: SignalWeight) -> None:
    valid = torch.tensor([True, True, False])
    step = weight_step(weight, (N, C), valid=valid)

    def changed(tensor: Tensor) -> Tensor:
        return torch.where(
            valid.reshape(N, *[1] * (tensor.ndim - 1)), tensor, tensor.flip(1) + 3 * torch.eye(C)[0].to(tensor)
        )

    def other(answer: Answer) -> Answer:
        return Answer({name: changed(tensor) for name, tensor in answer.outputs.items()}, answer.features)

    teachers = {name: other(answer) for name, answer in step.teachers.items()}
    second = dataclasses.replace(fresh(step), student=other(step.student), teachers=teachers, teacher=teachers["first"])
    elementwise = torch.ones(N, dtype=torch.float64)
    found = [weight(one, elementwise, memory_of(weight, step)) for one in (step, second)]
    torch.testing.assert_close(found[0][valid], found[1][valid])


def test_saved_and_loaded_it_goes_on_as_before(weight: SignalWeight) -> None:
    step, elementwise = weight_step(weight, (N, C, 6, 6)), torch.ones(N, 6, 6, dtype=torch.float64)
    memory, other = memory_of(weight, step), memory_of(weight, step)
    if memory is None or other is None:
        pytest.skip("it keeps nothing")
    for loss in (1.0, 0.7, 0.6):
        weight(step, elementwise, memory)
        weight.update(memory, loss)
    other.load_state_dict(memory.state_dict())
    for loss in (0.4, 0.5):
        first, second = (weight(fresh(step), elementwise, one) for one in (memory, other))
        assert torch.equal(first, second)
        weight.update(memory, loss)
        weight.update(other, loss)
