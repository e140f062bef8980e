import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.weight.meta_learned import GroupWeights, MetaLearned
from edgekd.losses.weighting import mean_one

GROUPS = torch.arange(90) % 3


def step_of(**fields: object) -> Step:
    return Step(Answer({}), **{"groups": GROUPS, **fields})  # type: ignore[arg-type]


def test_it_learns_to_weigh_a_corrupted_group_down() -> None:
    """A linear student learns from labels and from a teacher that is wrong on the second of three groups."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(90, 5, generator=generator)
    truth = torch.randn(5, generator=generator)
    targets = inputs @ truth
    teacher = torch.where(GROUPS == 1, 3 * torch.randn(90, generator=generator), targets)
    student = torch.zeros(5, requires_grad=True)
    weight = MetaLearned(groups=3)
    memory = weight.prepare(None)  # type: ignore[arg-type]
    for _ in range(300):
        answers = inputs @ student
        task, elementwise = (answers - targets).square().mean(), (answers - teacher).square()
        importance = mean_one(weight(step_of(), elementwise, memory), elementwise)
        (gradient,) = torch.autograd.grad(task + (importance * elementwise).mean(), student)
        with torch.no_grad():
            student -= 0.05 * gradient
        weight.update(memory, task.item())
    learned = 3 * memory.theta.softmax(0)
    assert learned[1] < 0.3 and learned[1] < learned[0] / 3 and learned[1] < learned[2] / 3


def test_it_begins_with_equal_weights_and_processes_draw_the_same_noise() -> None:
    weight = MetaLearned(groups=3)
    memories = [GroupWeights(3), GroupWeights(3)]
    assert (weight(step_of(), torch.zeros(90), memories[0]) == 1).all()
    for memory in memories:
        torch.randn(7)  # the global generator has no part in it
        weight.update(memory, 1.0)
    assert torch.equal(memories[0].noise, memories[1].noise) and memories[0].noise.abs().max() > 0


def test_groups_that_were_not_in_the_batch_learn_nothing() -> None:
    weight, memory = MetaLearned(groups=3), GroupWeights(3)
    for loss in (4.0, 3.0, 2.5, 1.0, 0.9):
        weight(step_of(groups=torch.tensor([0, 0])), torch.zeros(2), memory)
        weight.update(memory, loss)
    # their noise differs, their weights do not; all are shifted to a mean of 0
    assert memory.noise_before[1] != memory.noise_before[2]
    assert memory.theta[0] != 0 and memory.theta[1] == memory.theta[2]


def test_memberships_are_averaged() -> None:
    weight, memory = MetaLearned(groups=3, group="modalities"), GroupWeights(3)
    memory.theta.copy_(torch.tensor([1.0, 2.0, 4.0]).log())
    mask = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    found = weight(step_of(extras={"modalities": mask}), torch.zeros(3), memory)
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0, 0.0]) * 3 / 7)


def test_groups_that_are_missing_or_do_not_fit_are_named() -> None:
    weight, memory = MetaLearned(groups=2), GroupWeights(2)
    with pytest.raises(InputError, match="no group ids"):
        weight(step_of(groups=None), torch.zeros(90), memory)
    with pytest.raises(InputError, match="ids from 0 to 1.*from 0 to 2"):
        weight(step_of(), torch.zeros(90), memory)
