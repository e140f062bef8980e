import pytest
import torch
from torch.nn import functional

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.black_box_aligner import Aligner, BlackBoxAligner, manifold_distance

from ..steps import random


def test_it_is_the_mean_square_and_the_cosine_distance() -> None:
    u, v = random(3, 6), random(3, 6, seed=1)
    for i in range(3):
        cosine = (u[i] @ v[i]) / (u[i].norm() * v[i].norm())
        expected = 2 * (u[i] - v[i]).square().sum() / 6 + 0.5 * (1 - cosine)
        torch.testing.assert_close(manifold_distance(u, v, 2.0, 0.5)[i], expected)
    assert manifold_distance(u, u).abs().max() < 1e-12


def made(**fields: object) -> tuple[BlackBoxAligner, Step, Aligner]:
    torch.manual_seed(0)
    loss = BlackBoxAligner(width=8, **fields)  # type: ignore[arg-type]
    mine = Answer({}, {"penultimate": random(4, 7, 5)})  # tokens
    yours = Answer(
        {"logits": random(4, 3, seed=1), "vector": random(4, 6, seed=2)}, {"tap": random(4, 9, 2, 2, seed=3)}
    )
    memory = loss.prepare(Setup(mine, {"t": yours}, samples=4)).double()
    return loss, Step(mine, {"t": yours}, yours), memory


@pytest.mark.parametrize(("fields", "width"), [({}, 3), ({"embedding": "vector"}, 6), ({"teacher_tap": "tap"}, 9)])
def test_the_two_meet_in_the_shared_space(fields: dict[str, str], width: int) -> None:
    loss, step, memory = made(**fields)
    assert memory.teacher.in_features == memory.back.out_features == width
    found = {3: step.the_teacher.output(), 6: step.the_teacher.output("vector")}
    yours = found.get(width, step.the_teacher.features["tap"].mean((2, 3)))
    mine = step.student.features["penultimate"].mean(1)
    u, v = (functional.layer_norm(p, (8,)) for p in (memory.student(mine), memory.teacher(yours)))
    expected = (u - v).square().mean(1) + 1 - functional.cosine_similarity(u, v)
    torch.testing.assert_close(loss(step, memory), expected)


def test_taps_are_asked_for_where_they_are_named() -> None:
    assert BlackBoxAligner().teacher_taps() == () and BlackBoxAligner(teacher_tap="x").teacher_taps() == ("x",)


def test_the_student_s_map_learns_to_meet_and_the_teacher_s_to_give_its_vector_back() -> None:
    loss, step, memory = made(embedding="vector")
    step.student.features["penultimate"].requires_grad_()
    names = [*(name for name, _ in memory.named_parameters()), "feature"]
    tensors = [*memory.parameters(), step.student.features["penultimate"]]

    def moved(value: torch.Tensor) -> set[str]:
        given = torch.autograd.grad(value, tensors, allow_unused=True)
        return {name.split(".")[0] for name, one in zip(names, given, strict=True) if one is not None}

    assert moved(loss(step, memory).mean()) == {"student", "feature"}
    assert moved(loss.own_loss(step, memory)) == {"teacher", "back"}


def test_a_sample_of_which_the_teacher_was_not_asked_costs_nothing() -> None:
    loss, step, memory = made(embedding="vector")
    before = loss(step, memory)
    step.the_teacher.output("vector")[2] = 0
    found = loss(step, memory)
    assert before[2] > 0 and torch.equal(found, before * torch.tensor([1, 1, 0, 1]))


def test_its_own_loss_is_the_reconstruction_of_the_scaled_vector() -> None:
    loss, step, memory = made(embedding="vector")
    vector = step.the_teacher.output("vector")
    point = functional.layer_norm(memory.teacher(vector), (8,))
    wanted = functional.layer_norm(vector, (6,))
    torch.testing.assert_close(loss.own_loss(step, memory), (memory.back(point) - wanted).square().mean())


def test_training_aligns_without_shrinking_the_space() -> None:
    torch.manual_seed(0)
    vector = torch.randn(64, 6)
    mine, yours = Answer({}, {"penultimate": vector @ torch.randn(6, 5)}), Answer({"vector": vector})
    loss = BlackBoxAligner(width=8)
    memory = loss.prepare(Setup(mine, {"t": yours}, samples=64))
    step = Step(mine, {"t": yours}, yours)
    before = loss(step, memory).mean().item()
    optimizer = torch.optim.Adam(memory.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (loss(step, memory).mean() + loss.own_loss(step, memory)).backward()
        optimizer.step()
    _, points = memory.points(step.student.features["penultimate"], vector)
    assert loss(step, memory).mean() < before / 3
    assert points.var(0).mean() > 0.3, "points of different samples stay apart"


@pytest.mark.parametrize("field", [{"width": 1}, {"euclidean": -1.0}, {"cosine": -1.0}])
def test_bad_settings_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        BlackBoxAligner(**field)  # type: ignore[arg-type]
