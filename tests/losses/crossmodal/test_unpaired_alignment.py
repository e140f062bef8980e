import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.sinkhorn import sinkhorn_divergence
from edgekd.losses.crossmodal.unpaired_alignment import (
    TeacherMap,
    UnpairedAlignment,
    class_mean_distance,
    ground_cost,
)

from ..steps import random


def cloud(count: int, seed: int, width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return random(count, width, seed=seed), random(count, 4, seed=seed + 100, scale=2).log_softmax(1)


def test_the_cost_is_the_square_and_the_symmetric_divergence() -> None:
    mine, yours = cloud(3, 0), cloud(5, 1)
    found = ground_cost(mine, yours, 0.7)
    for i in range(3):
        for j in range(5):
            kls = [functional.kl_div(a, b, log_target=True, reduction="sum")
                   for a, b in ((yours[1][j], mine[1][i]), (mine[1][i], yours[1][j]))]  # fmt: skip
            expected = (mine[0][i] - yours[0][j]).square().sum() + 0.7 * (kls[0] + kls[1]) / 2
            torch.testing.assert_close(found[i, j], expected)
    torch.testing.assert_close(ground_cost(mine, mine).diagonal(), torch.zeros(3).double())


def test_predictions_keep_samples_of_unlike_classes_apart() -> None:
    """Two features and their classes, crossed: without rho they match by feature, with it by class."""
    f, g = torch.tensor([[0.0], [0.1]]), torch.tensor([[0.0], [0.1]])
    log_p = (10 * torch.eye(2)).log_softmax(1)
    for rho, crossed in ((0.0, False), (1.0, True)):
        cost = ground_cost((f, log_p), (g, log_p.flip(0)), rho)
        assert bool(cost[0, 1] + cost[1, 0] < cost[0, 0] + cost[1, 1]) is crossed


def test_class_means_are_of_the_classes_that_both_have() -> None:
    mine, yours = random(5, 4).softmax(1), random(4, 4, seed=1).softmax(1)
    labels, your_labels = torch.tensor([0, 0, 1, 3, -1]), torch.tensor([1, 0, 1, 2])
    expected = [
        (mine[:2].mean(0) - yours[1]).square().sum(),
        (mine[2] - yours[[0, 2]].mean(0)).square().sum(),
    ]
    torch.testing.assert_close(class_mean_distance(mine, labels, yours, your_labels), sum(expected) / 2)
    assert class_mean_distance(mine, torch.full((5,), 3), yours, your_labels) == 0


def test_the_map_descends_as_adam_does() -> None:
    torch.manual_seed(0)
    own = TeacherMap(4, 3).double()
    weight = own.weight.clone().requires_grad_()
    adam = torch.optim.Adam([weight], lr=0.03)
    for seed in range(5):
        gradient = random(3, 4, seed=seed)
        own.descend(gradient, 0.03)
        weight.grad = gradient
        adam.step()
    torch.testing.assert_close(own.weight, weight.detach())
    assert not list(own.parameters())


def test_the_map_gives_unit_vectors_and_starts_as_the_identity_where_it_can() -> None:
    teacher = random(5, 4, dtype=torch.float32)
    torch.testing.assert_close(TeacherMap(4, 4)(teacher), functional.normalize(teacher))
    found = TeacherMap(4, 6)(teacher)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    assert found.shape == (5, 6)


def unpaired(
    loss: UnpairedAlignment, mine: int = 5, yours: int = 7, classes: int = 4, **fields: object
) -> tuple[Step, torch.nn.Module]:
    """Return a step whose teacher saw other samples, and the memory."""
    torch.manual_seed(0)
    student = Answer({"output": random(mine, classes)}, {"penultimate": random(mine, 3, seed=1)})
    teacher = Answer({"output": random(yours, classes, seed=2)}, {"penultimate": random(yours, 6, seed=3)})
    labels = max(classes, 2)
    step = Step(
        student, {"t": teacher}, teacher, targets=torch.arange(mine) % labels,
        teacher_targets=torch.arange(yours) % labels, progress=1.0, **fields,
    )  # type: ignore[arg-type]  # fmt: skip
    memory = loss.prepare(Setup(student, {"t": teacher}, samples=9, classes=classes))
    assert memory is not None
    return step, memory.double()


def own_map(memory: torch.nn.Module) -> TeacherMap:
    (own,) = memory.pairs.values()  # type: ignore[operator, union-attr]
    assert isinstance(own, TeacherMap)
    return own


def test_it_is_both_terms_of_batches_of_different_samples_and_sizes() -> None:
    loss = UnpairedAlignment(inner_steps=0)
    step, memory = unpaired(loss)
    f = functional.normalize(step.student.features["penultimate"])
    g = own_map(memory)(step.the_teacher.features["penultimate"])
    log_p, log_q = step.student.output().log_softmax(1), step.the_teacher.output().log_softmax(1)
    assert step.targets is not None and step.teacher_targets is not None
    expected = 0.1 * sinkhorn_divergence((f, log_p), (g, log_q), ground_cost)
    expected = expected + class_mean_distance(log_p.exp(), step.targets, log_q.exp(), step.teacher_targets)
    torch.testing.assert_close(loss(step, memory), expected)


def test_the_feature_term_warms_up() -> None:
    loss = UnpairedAlignment(inner_steps=0)
    step, memory = unpaired(loss)
    begin = Step(**{**step.__dict__, "progress": 0.0})
    assert step.targets is not None and step.teacher_targets is not None
    label = class_mean_distance(
        step.student.output().softmax(1), step.targets, step.the_teacher.output().softmax(1), step.teacher_targets
    )
    torch.testing.assert_close(loss(begin, memory), label)


def test_inner_steps_bring_the_teacher_nearer_and_not_the_student() -> None:
    values = {}
    for steps in (0, 5, 50):
        loss = UnpairedAlignment.model_validate({"kind": "unpaired-alignment", "inner_steps": steps, "label_weight": 0})
        step, memory = unpaired(loss)
        values[steps] = loss(step, memory).item()
        assert own_map(memory).steps == steps
    assert values[50] < values[5] < values[0]


def test_evaluation_leaves_the_map_alone() -> None:
    loss = UnpairedAlignment()
    step, memory = unpaired(loss)
    before = own_map(memory).weight.clone()
    with torch.no_grad():
        loss(step, memory)
    assert torch.equal(own_map(memory).weight, before)


def test_one_logit_is_a_yes_or_a_no() -> None:
    loss = UnpairedAlignment.model_validate({"kind": "unpaired-alignment", "feature_weight": 0})
    step, memory = unpaired(loss, classes=1)
    mine, yours = (torch.sigmoid(one.output()[:, 0]) for one in (step.student, step.the_teacher))
    gaps = [mine[c::2].mean() - yours[c::2].mean() for c in (0, 1)]
    torch.testing.assert_close(loss(step, memory), gaps[0] ** 2 + gaps[1] ** 2)  # 2 gap^2, over 2 classes


def test_samples_of_all_processes_make_the_clouds() -> None:
    loss = UnpairedAlignment(inner_steps=0)
    step, memory = unpaired(loss)
    double = Step(**{**step.__dict__, "gather": lambda tensor: torch.cat([tensor, tensor])})
    torch.testing.assert_close(loss(double, memory), loss(step, memory))
    other = Step(**{**step.__dict__, "gather": lambda tensor: torch.cat([tensor, tensor.flip(-1)])})
    assert not torch.allclose(loss(other, memory), loss(step, memory))


def aligned(feature_weight: float, label_weight: float) -> tuple[float, float]:
    """Return the accuracy and the distance of class means of a student of free logits and features.

    Its features lie as the teacher's of the next class, so the transport alone pairs classes wrongly.
    """
    torch.manual_seed(0)
    labels = torch.arange(24) % 3
    centres = functional.normalize(torch.randn(3, 6))
    yours = Answer({"output": 4 * torch.eye(3)[labels]}, {"penultimate": centres[labels] + 0.1 * torch.randn(24, 6)})
    features = centres[(labels + 1) % 3] + 0.1 * torch.randn(24, 6)
    head = torch.zeros(3, 6, requires_grad=True)
    loss = UnpairedAlignment.model_validate(
        {"kind": "unpaired-alignment", "feature_weight": feature_weight, "label_weight": label_weight, "inner_steps": 0}
    )
    memory = loss.prepare(Setup(Answer({"output": yours.output()}, {"penultimate": features}), {"t": yours}, 24, 3))
    for _ in range(30):
        mine = Answer({"output": features @ head.T}, {"penultimate": features})
        (gradient,) = torch.autograd.grad(
            loss(Step(mine, {"t": yours}, yours, targets=labels, progress=1.0), memory), head
        )
        with torch.no_grad():
            head -= 2 * gradient
    answers = (features @ head.T).detach()
    gap = class_mean_distance(answers.softmax(1), labels, yours.output().softmax(1), labels)
    return (answers.argmax(1) == labels).double().mean().item(), gap.item()


def test_a_large_feature_weight_without_the_label_term_lowers_accuracy() -> None:
    alone, with_labels = aligned(5.0, 0.0), aligned(0.1, 1.0)
    assert alone[0] < 0.2 and with_labels[0] > 0.9 and with_labels[1] < alone[1] / 4


def test_outputs_of_unlike_classes_or_of_maps_are_refused() -> None:
    feature = {"penultimate": random(3, 4)}
    for mine, yours in (((3, 4), (3, 5)), ((3, 4, 2, 2), (3, 4, 2, 2))):
        setup = Setup(Answer({"o": random(*mine)}, feature), {"t": Answer({"o": random(*yours)}, feature)}, samples=3)
        with pytest.raises(InputError, match="classifiers of the same classes"):
            UnpairedAlignment().prepare(setup)


def test_labels_are_needed() -> None:
    loss = UnpairedAlignment()
    step, memory = unpaired(loss)
    with pytest.raises(InputError, match="needs labels"):
        loss(Step(**{**step.__dict__, "targets": None}), memory)
