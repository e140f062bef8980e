import math

import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.class_memory import ClassMemory, ClassMemoryLoss, class_scores, margin_loss

from ..steps import random


def test_scores_are_smooth_maxima_of_the_classes() -> None:
    x, memory = random(3, 5), random(4, 6, 5, seed=1)
    found = class_scores(x, memory, 2.0)
    for n in range(3):
        for c in range(4):
            expected = math.log(sum(math.exp(2 * float(x[n] @ memory[c, k])) for k in range(6))) / 2
            assert math.isclose(float(found[n, c]), expected, rel_tol=1e-9)
    sharp = torch.einsum("nd,ckd->nck", x, memory).amax(2)
    torch.testing.assert_close(class_scores(x, memory, 1e4), sharp, atol=1e-3, rtol=0)


def test_no_gradient_reaches_the_memory() -> None:
    x, memory = random(3, 5).requires_grad_(), random(4, 6, 5, seed=1).requires_grad_()
    gradients = torch.autograd.grad(class_scores(x, memory).sum(), (x, memory), allow_unused=True)
    assert gradients[0] is not None and gradients[1] is None


def test_the_margin_is_over_the_strongest_other_class() -> None:
    scores = torch.tensor([[1.0, 0.4, 0.9], [0.0, 2.0, -1.0], [5.0, 5.0, 5.0]])
    found = margin_loss(scores, torch.tensor([0, 2, -1]), 0.2, 5.0)
    expected = [math.log1p(math.exp(5 * (0.2 - (1.0 - 0.9)))), math.log1p(math.exp(5 * (0.2 + 3.0))), 0.0]
    torch.testing.assert_close(found, torch.tensor(expected))


def memory_of(classes: int = 3, slots: int = 4, width: int = 6) -> ClassMemory:
    torch.manual_seed(0)
    return ClassMemory(5, 7, classes, slots, width).double()


def test_a_class_learns_only_from_its_own_samples() -> None:
    memory = memory_of()
    before = memory.vectors.clone()
    points = functional.normalize(random(3, 6))
    memory.update(points, torch.tensor([1, 1, -1]), 0.5, 0.0)
    torch.testing.assert_close(memory.vectors[[0, 2]], before[[0, 2]])
    members: dict[int, list[torch.Tensor]] = {}
    for point in points[:2]:
        members.setdefault(int((before[1] @ point).argmax()), []).append(point)
    expected = before[1].clone()
    for k, mine in members.items():
        expected[k] = functional.normalize(0.5 * before[1, k] + 0.5 * torch.stack(mine).mean(0), dim=0)
    torch.testing.assert_close(memory.vectors[1], expected)


def test_the_vectors_of_a_class_move_apart_down_the_gradient_of_their_overlap() -> None:
    memory = memory_of()
    vectors = memory.vectors.clone().requires_grad_()
    gram = vectors @ vectors.mT
    overlap = (gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))).square().sum() / 4
    (gradient,) = torch.autograd.grad(overlap, vectors)
    memory.update(random(0, 6), torch.zeros(0, dtype=torch.int64), 0.9, 0.1)
    torch.testing.assert_close(memory.vectors, functional.normalize(vectors.detach() - 0.1 * gradient, dim=2))


def test_repeated_steps_make_them_orthogonal() -> None:
    memory = memory_of()
    for _ in range(400):
        memory.update(random(0, 6), torch.zeros(0, dtype=torch.int64), 0.9, 0.1)
    torch.testing.assert_close(
        memory.vectors @ memory.vectors.mT, torch.eye(4).double().expand(3, 4, 4), atol=1e-2, rtol=0
    )


def made(classes: int | None = 3, **fields: object) -> tuple[ClassMemoryLoss, Step, torch.nn.Module]:
    torch.manual_seed(0)
    loss = ClassMemoryLoss(slots=4, width=6)
    mine, yours = Answer({}, {"penultimate": random(4, 5)}), Answer({}, {"penultimate": random(4, 7, seed=1)})
    memory = loss.prepare(Setup(mine, {"t": yours}, samples=4, classes=classes))
    assert memory is not None
    step = Step(mine, {"t": yours}, yours, **{"targets": torch.tensor([0, 2, 1, 0]), **fields})  # type: ignore[arg-type]
    return loss, step, memory.double()


def own(memory: torch.nn.Module) -> ClassMemory:
    (one,) = memory.pairs.values()  # type: ignore[operator, union-attr]
    assert isinstance(one, ClassMemory)
    return one


def test_both_modalities_are_drawn_to_the_memory_as_it_was() -> None:
    loss, step, memory = made(teacher_targets=torch.tensor([1, 1, 2, -1]))
    vectors, maps = own(memory).vectors.clone(), own(memory)
    mine = functional.normalize(maps.student(step.student.features["penultimate"]))
    yours = functional.normalize(maps.teacher(step.the_teacher.features["penultimate"]))
    assert step.targets is not None and step.teacher_targets is not None
    first = margin_loss(class_scores(mine, vectors), step.targets)
    second = margin_loss(class_scores(yours, vectors), step.teacher_targets).mean()
    torch.testing.assert_close(loss(step, memory), 2.0 * first + 0.5 * second)
    assert not torch.equal(own(memory).vectors, vectors)


def test_the_memory_is_no_parameter_and_stands_still_in_evaluation() -> None:
    loss, step, memory = made()
    before = own(memory).vectors.clone()
    with torch.no_grad():
        loss(step, memory)
    assert torch.equal(own(memory).vectors, before)
    assert {name for name, _ in own(memory).named_parameters()} == {
        "student.weight", "student.bias", "teacher.weight", "teacher.bias",
    }  # fmt: skip


def test_processes_end_up_with_equal_memories() -> None:
    vectors = []
    for turn in (False, True):  # two processes, as each of them sees both
        mine, yours = torch.tensor([0, 2, 1, 0]), torch.tensor([0, 2, 1, 0]).flip(0)
        loss, step, memory = made(targets=yours if turn else mine)
        halves = [step, made(targets=mine if turn else yours)[1]]
        parts: dict[int, torch.Tensor] = {}

        def gather(tensor: torch.Tensor, turn: bool = turn, parts: dict[int, torch.Tensor] = parts) -> torch.Tensor:
            other = tensor if tensor.is_floating_point() else tensor.flip(0)
            return torch.cat([other, tensor] if turn else [tensor, other])

        loss(Step(**{**halves[0].__dict__, "gather": gather}), memory)
        vectors.append(own(memory).vectors)
    torch.testing.assert_close(vectors[0], vectors[1])


def test_training_pulls_a_class_s_samples_to_its_memory() -> None:
    loss, step, memory = made()
    student = step.student.features["penultimate"].clone().requires_grad_()
    optimizer = torch.optim.Adam([student, *memory.parameters()], 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss(Step(**{**step.__dict__, "student": Answer({}, {"penultimate": student})}), memory).mean().backward()
        optimizer.step()
    points = functional.normalize(own(memory).student(student))
    assert step.targets is not None
    assert torch.equal(class_scores(points, own(memory).vectors).argmax(1), step.targets)


def test_data_without_classes_are_refused() -> None:
    with pytest.raises(InputError, match="no classes"):
        made(classes=None)


def test_labels_are_needed() -> None:
    loss, step, memory = made(targets=None)
    with pytest.raises(InputError, match="needs labels"):
        loss(step, memory)
