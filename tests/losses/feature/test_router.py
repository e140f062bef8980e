import math

import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import LOSSES, Setup
from edgekd.losses.feature.router import Router, entropy_floor

from ..steps import Answer, make_setup, make_step, memory_of, random


def router(**fields: object) -> Router:
    return Router.model_validate({"student": "a", "blocks": ["b.0", "b.1"], **fields})


def answers(width: int = 5) -> tuple[Answer, Answer]:
    student = Answer({}, {"a": random(3, 4)})
    return student, Answer({}, {"b.0": random(3, width, seed=1), "b.1": random(3, 4, seed=2)})


def loss_with(policy: Router) -> object:
    return LOSSES["hint"](layers=policy)


def test_the_floor_is_a_share_of_the_largest_entropy() -> None:
    routes = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]], requires_grad=True)
    lacking = entropy_floor(routes, 0.5)
    few = 0.5 * math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)
    torch.testing.assert_close(lacking, torch.tensor([0.0, 0.5 * math.log(2), max(few, 0.0)]))
    (gradient,) = torch.autograd.grad(lacking.sum(), routes)
    assert torch.isfinite(gradient).all()


def test_the_floor_keeps_a_router_from_collapse() -> None:
    student, teacher = answers()
    entropies = []
    for weight in (0.0, 10.0):
        policy = router(floor=0.9, floor_weight=weight)
        memory = memory_of(loss_with(policy), student, teacher).policy
        with torch.no_grad():
            memory.gate[-1].bias.copy_(torch.tensor([3.0, -3.0]))
        optimizer = torch.optim.Adam(memory.parameters(), 0.05)
        for _ in range(40):
            optimizer.zero_grad()
            policy.own_loss(make_step(student, teacher), memory).backward()
            optimizer.step()
        routes = policy._mix(make_step(student, teacher), memory)[1]
        entropies.append(-(routes * routes.log()).sum(1).mean().item() / math.log(2))
    assert entropies[1] > 0.85 and entropies[1] > entropies[0]


def test_the_target_is_the_mixture_of_mapped_layers() -> None:
    student, teacher = answers()
    policy = router(temperature=2)
    memory = memory_of(loss_with(policy), student, teacher).policy
    with torch.no_grad():
        memory.gate[-1].weight.normal_()
    ((name, mine, mixed),) = policy.pairs(make_step(student, teacher), memory)
    first, second = teacher.features["b.0"], teacher.features["b.1"]
    routes = (memory.gate(torch.cat([first, second], 1)) / 2).softmax(1)
    torch.testing.assert_close(mixed, routes[:, :1] * memory.maps["0"](first) + routes[:, 1:] * second)
    assert name == "a~mixed" and mine is student.features["a"] and set(memory.maps) == {"0"}


def test_at_first_all_layers_count_alike() -> None:
    student, teacher = answers()
    policy = router()
    memory = memory_of(loss_with(policy), student, teacher).policy
    assert torch.equal(
        policy._mix(make_step(student, teacher), memory)[1], torch.full((3, 2), 0.5, dtype=torch.float64)
    )


def test_the_mimic_loss_trains_no_router_and_the_head_s_loss_no_student() -> None:
    student, teacher = answers()
    student.features["a"].requires_grad_()
    loss = loss_with(router())
    memory, step = memory_of(loss, student, teacher), make_step(student, teacher)
    parameters = list(memory.policy.parameters())
    mimic = loss(step, memory).mean()
    (own, *rest) = torch.autograd.grad(mimic, [student.features["a"], *parameters], allow_unused=True)
    assert own.abs().max() > 0 and all(gradient is None for gradient in rest)
    task = loss.own_loss(step, memory)
    (own, *rest) = torch.autograd.grad(task, [student.features["a"], *parameters], allow_unused=True)
    assert own is None and all(gradient is not None for gradient in rest)


def test_its_own_loss_is_the_head_s_cross_entropy_over_what_counts() -> None:
    student, teacher = answers()
    policy = router(floor=0)
    memory = memory_of(loss_with(policy), student, teacher).policy
    targets, valid = torch.tensor([1, -1, 3]), torch.tensor([True, True, False])
    step = make_step(student, teacher, targets=targets, valid=valid)
    mixed = policy.pairs(step, memory)[0][2]
    torch.testing.assert_close(
        policy.own_loss(step, memory), functional.cross_entropy(memory.head(mixed)[:1], targets[:1])
    )


def test_it_learns_to_route_to_the_layer_that_tells_the_classes_where_a_floor_stops_early_collapse() -> None:
    targets = torch.tensor([0, 1] * 16)
    clear = functional.one_hot(targets, 4).double() * 2
    student = Answer({}, {"a": random(32, 4)})
    teacher = Answer({}, {"b.0": clear, "b.1": torch.zeros_like(clear)})
    shares = []
    for policy in (router(), router(floor=0)):
        memory = memory_of(loss_with(policy), student, teacher).policy
        with torch.no_grad():  # a new head that is wrong at first: silence is the cheapest way out
            memory.head.weight.copy_(-torch.eye(4))
        optimizer = torch.optim.Adam(memory.parameters(), 0.02)
        for number in range(120):
            step = make_step(student, teacher, targets=targets, progress=number / 120)
            optimizer.zero_grad()
            policy.own_loss(step, memory).backward()
            optimizer.step()
        shares.append(policy._mix(step, memory)[1][:, 0].mean().item())
    assert shares[0] > 0.9
    assert shares[1] < 0.1


@pytest.mark.parametrize(
    ("first", "last", "layout"),
    [((5, 6, 6), (4, 3, 3), "tokens"), ((7, 5), (7, 4), "tokens"), ((5, 16), (4, 16), "series")],
)
def test_maps_tokens_and_series_are_mixed(first: tuple[int, ...], last: tuple[int, ...], layout: str) -> None:
    student = Answer({}, {"a": random(3, *last)})
    teacher = Answer({}, {"b.0": random(3, *first, seed=1), "b.1": random(3, *last, seed=2)})
    policy = router(layout=layout)
    memory = memory_of(loss_with(policy), student, teacher).policy
    step = make_step(student, teacher)
    assert policy.pairs(step, memory)[0][2].shape == (3, *last)
    assert policy.own_loss(step, memory).ndim == 0


def test_what_does_not_fit_is_said() -> None:
    student, teacher = answers()
    with pytest.raises(InputError, match="class labels"):
        router().prepare(Setup(student, {"teacher": teacher}, samples=3))
    other = Answer({}, {"b.0": random(3, 9, 4), "b.1": random(3, 7, 4)})
    with pytest.raises(InputError, match=r"b.0 has the shape \(9, 4\)"):
        router().prepare(make_setup(student, other))
    memory = memory_of(loss_with(router()), student, teacher).policy
    for targets in (None, torch.rand(3), torch.zeros(3, 6, 6, dtype=torch.long)):
        with pytest.raises(InputError, match="one class a sample"):
            router().own_loss(make_step(student, teacher, targets=targets), memory)
