import torch
from torch.nn import functional

from edgekd.losses.logit.graph_smoothing import GraphSmoothing, class_graph, graph_smoothed_kl, smoothed

from ..steps import C, answers, make_step, memory_of, random


def test_the_graph_is_a_softmax_of_cosines() -> None:
    prototypes = random(5, 8)
    cosines = functional.cosine_similarity(prototypes[:, None], prototypes[None], dim=-1)
    torch.testing.assert_close(class_graph(prototypes, 3.0), (3 * cosines).softmax(1))


def test_the_smoothed_answer_is_the_weighted_geometric_mean() -> None:
    teacher, graph = random(2, 4), class_graph(random(4, 8, seed=1))
    q = teacher.softmax(-1)
    expected = torch.ones(2, 4, dtype=torch.float64)
    for j in range(4):
        expected[:, j] = q[:, j] ** 0.7
        for i in range(4):
            expected[:, j] *= q[:, i] ** (0.3 * graph[i, j])
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(smoothed(teacher, graph, 0.3).exp(), expected)


def test_without_neighbours_it_is_kl_over_the_classes() -> None:
    student, teacher = random(5, C), random(5, C, seed=1)
    expected = functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").mean(1)
    torch.testing.assert_close(graph_smoothed_kl(student, teacher, torch.eye(C).double(), 0.0), expected)
    loss = GraphSmoothing.model_validate({"gamma": 0})
    mine, yours = answers(loss, seed=1)
    logits = mine.output().requires_grad_()
    value = loss(make_step(mine, mine), memory_of(loss, mine, yours)).sum()
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.abs() < 1e-9 and gradient.abs().max() < 1e-9


def test_a_class_like_the_answer_gains_over_one_unlike_it() -> None:
    prototypes = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]])
    teacher = torch.tensor([[4.0, 0.0, 0.0]])
    found = smoothed(teacher, class_graph(prototypes), 0.5)[0]
    assert found[1] > found[2]


def test_the_prototypes_are_the_teacher_s_class_means() -> None:
    loss = GraphSmoothing()
    student, teacher = answers(loss, seed=1)
    memory, step = memory_of(loss, student, teacher), make_step(student, teacher)
    mine, yours = student.output(), teacher.output()
    rows = torch.eye(C, dtype=torch.float64)
    torch.testing.assert_close(loss(step, memory), graph_smoothed_kl(mine, yours, class_graph(rows)))
    loss.end_epoch(memory, 0)
    rows[torch.tensor([0, 2, 1])] = yours.softmax(-1)
    torch.testing.assert_close(loss(step, memory), graph_smoothed_kl(mine, yours, class_graph(rows)))


def test_a_map_has_a_value_a_position() -> None:
    graph = class_graph(random(C, 8))
    student, teacher = random(2, 3, 3, C), random(2, 3, 3, C, seed=1)
    found = graph_smoothed_kl(student, teacher, graph)
    torch.testing.assert_close(found[1, 2, 0], graph_smoothed_kl(student[1, 2, 0], teacher[1, 2, 0], graph))
