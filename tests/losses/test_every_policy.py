"""What holds for every layer policy: registering one enrols it."""

import copy

import pytest
import torch
from torch import Tensor, nn

from edgekd.losses import LOSSES, POLICIES, Answer, LayerPolicy

from .steps import answers, leaves, make_setup, make_step


@pytest.fixture(params=sorted(POLICIES))
def policy(request: pytest.FixtureRequest) -> LayerPolicy:
    return POLICIES[request.param].example()


def prepared(policy: LayerPolicy, student: Answer, teacher: Answer) -> nn.Module | None:
    torch.manual_seed(0)
    memory = policy.prepare(make_setup(student, teacher))
    return None if memory is None else memory.double()


def test_it_says_what_it_is(policy: LayerPolicy) -> None:
    assert policy.title and policy.source and policy.applies
    assert policy.evidence in "CASD" and policy.capability == "C02" and "features" in policy.needs
    assert policy.evidence != "D" or policy.variant
    assert policy.kind == policy.kind.lower() and "_" not in policy.kind
    assert type(policy).model_validate(policy.model_dump(mode="json")) == policy
    assert all(field.description for name, field in type(policy).model_fields.items() if name != "kind")


def test_its_taps_give_its_pairs(policy: LayerPolicy) -> None:
    student, teacher = answers(policy, seed=1)
    memory = prepared(policy, student, teacher)
    assert len(set(policy.student_taps())) == len(policy.student_taps()) > 0
    assert policy.teacher_taps() == policy.all_teacher_taps()
    now = policy.teacher_taps(memory)
    assert set(now) <= set(policy.all_teacher_taps())
    cut = Answer(teacher.outputs, {tap: teacher.features[tap] for tap in now})
    every = {
        name: (mine.shape, yours.shape) for name, mine, yours in policy.all_pairs(make_step(student, teacher), memory)
    }
    pairs = policy.pairs(make_step(student, cut), memory)
    assert pairs and len({name for name, _, _ in pairs}) == len(pairs)
    for name, mine, yours in pairs:
        assert every[name] == (mine.shape, yours.shape)
        assert any(mine is student.features[tap] for tap in policy.student_taps())
        assert policy.coefficient(name) > 0


def test_looking_at_all_pairs_changes_nothing(policy: LayerPolicy) -> None:
    student, teacher = answers(policy, seed=2)
    memory = prepared(policy, student, teacher)
    before = {} if memory is None else copy.deepcopy(memory.state_dict())
    policy.all_pairs(make_step(student, teacher), memory)
    after = {} if memory is None else memory.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_gradient_reaches_the_teacher(policy: LayerPolicy) -> None:
    student, teacher = answers(policy, seed=3)
    student, _ = leaves(student)
    teacher, wanted = leaves(teacher)
    memory, step = prepared(policy, student, teacher), make_step(student, teacher)
    pairs = [*policy.all_pairs(step, memory), *policy.pairs(step, memory)]
    assert not any(yours.requires_grad for _, _, yours in pairs)
    own = policy.own_loss(step, memory)
    if own is not None:
        assert own.ndim == 0
        assert all(gradient is None for gradient in torch.autograd.grad(own, wanted, allow_unused=True))


def test_saved_and_loaded_it_gives_the_same_pairs(policy: LayerPolicy) -> None:
    student, teacher = answers(policy, seed=4)
    memory, other = prepared(policy, student, teacher), prepared(policy, student, teacher)
    step = make_step(student, teacher)
    policy.pairs(step, memory)
    policy.end_epoch(memory, 0)
    if memory is not None and other is not None:
        with torch.no_grad():
            for parameter in memory.parameters():
                parameter.add_(0.1)
        other.load_state_dict(memory.state_dict())
    assert policy.teacher_taps(memory) == policy.teacher_taps(other)
    first, second = policy.pairs(step, memory), policy.pairs(step, other)
    assert [name for name, _, _ in first] == [name for name, _, _ in second]
    assert all(torch.equal(one[2], another[2]) for one, another in zip(first, second, strict=True))


def test_a_feature_loss_takes_it(policy: LayerPolicy) -> None:
    loss = LOSSES["hint"].model_validate({"layers": policy.model_dump(mode="json")})
    student, teacher = answers(loss, seed=5)
    student, tensors = leaves(student)
    torch.manual_seed(0)
    memory = loss.prepare(make_setup(student, teacher))
    assert memory is not None
    value: Tensor = loss(make_step(student, teacher), memory.double())
    assert value.ndim >= 1
    gradients = torch.autograd.grad(value.mean(), tensors, allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 1e-9 for gradient in gradients)
