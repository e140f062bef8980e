from typing import Any

import pytest
import torch
from torch.nn import functional

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.committee.meta_mlp import MetaMlp
from edgekd.losses.committee.variance import fit_shares

from ..steps import make_step, random


def cast(committee: MetaMlp, **changes: Any) -> tuple[Step, Any]:
    torch.manual_seed(0)
    teachers = {name: Answer({"output": random(3, 4, seed=k)}) for k, name in enumerate("ab")}
    memory = committee.prepare(Setup(teachers["a"], teachers, samples=3, classes=4))
    return make_step(teachers["a"], teachers["a"], teachers=teachers, **changes), memory


def test_the_network_joins_when_its_share_says_so() -> None:
    committee = MetaMlp()
    step, memory = cast(committee, progress=0.3)
    logits = torch.stack([answer.output() for answer in step.teachers.values()])
    share = fit_shares(logits, step.targets, torch.ones(2, 3, dtype=torch.bool))
    teachers = (share[..., None] * logits.softmax(-1)).sum(0)
    torch.testing.assert_close(committee(step, memory).output().softmax(1), teachers)
    late, _ = cast(committee, progress=0.7)
    expected = (teachers + memory(logits).softmax(1)) / 2
    torch.testing.assert_close(committee(late, memory).output().softmax(1), expected)


def test_it_learns_by_cross_entropy_from_samples_with_labels() -> None:
    committee = MetaMlp()
    step, memory = cast(committee, targets=torch.tensor([1, -1, 3]))
    logits = torch.stack([answer.output() for answer in step.teachers.values()])
    expected = functional.cross_entropy(memory(logits), step.targets, ignore_index=-1)
    torch.testing.assert_close(committee.loss(step, committee(step, memory), memory), expected)
    without, _ = cast(committee, targets=None)
    assert committee.loss(without, committee(without, memory), memory) is None


def test_it_learns_what_no_teacher_knows() -> None:
    """Both teachers are wrong in the same way: they call class c c + 1."""
    committee = MetaMlp(width=16)
    labels = torch.arange(4).repeat(4)
    wrong = Answer({"output": 3 * functional.one_hot((labels + 1) % 4, 4).double()})
    teachers = {"a": wrong, "b": wrong}
    torch.manual_seed(0)
    memory: Any = committee.prepare(Setup(wrong, teachers, samples=16, classes=4))
    step = make_step(wrong, wrong, teachers=teachers, targets=labels)
    optimizer = torch.optim.Adam(memory.parameters(), 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        committee.loss(step, committee(step, memory), memory).backward()
        optimizer.step()
    assert (memory(torch.stack([wrong.output()] * 2)).argmax(1) == labels).all()


def test_a_constant_added_to_logits_changes_nothing() -> None:
    step, memory = cast(MetaMlp())
    logits = torch.stack([answer.output() for answer in step.teachers.values()])
    torch.testing.assert_close(memory(logits + 7), memory(logits))


@pytest.mark.parametrize(
    ("size", "classes", "axis"), [((2, 4, 3, 3), 4, 1), ((2, 5, 4), 4, -1), ((3, 1), 1, 1), ((2, 1, 3, 3), 1, 1)]
)
def test_it_learns_classes_wherever_their_axis_is(size: tuple[int, ...], classes: int, axis: int) -> None:
    teachers = {name: Answer({"output": random(*size, seed=k)}) for k, name in enumerate("ab")}
    memory: Any = MetaMlp().prepare(Setup(teachers["a"], teachers, samples=size[0], class_axis=axis)).double()
    assert memory.layers[0].in_features == 2 * classes and memory.layers[-1].out_features == classes
    step = make_step(teachers["a"], teachers["a"], teachers=teachers, targets=None, class_axis=axis, progress=0.9)
    assert MetaMlp()(step, memory).output().shape == size
