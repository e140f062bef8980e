from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer
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


def test_given_prototypes_make_the_graph_and_unseen_classes_join_alike_ones(tmp_path: Path) -> None:
    rows = random(C + 2, 8, seed=4)
    np.save(tmp_path / "names.npy", rows.numpy())
    loss = GraphSmoothing.model_validate({"prototypes": str(tmp_path / "names.npy"), "unseen": 0.2})
    student, teacher = answers(loss, seed=1)
    graph = class_graph(rows)
    through = torch.stack([
        torch.stack([sum(graph[i, k] * graph[k, j] for k in range(C, C + 2)) for j in range(C)]) for i in range(C)
    ])  # fmt: skip
    expected = graph_smoothed_kl(student.output(), teacher.output(), graph[:C, :C] + 0.2 * through)
    torch.testing.assert_close(loss(make_step(student, teacher), memory_of(loss, student, teacher)), expected)
    assert loss.files() == (tmp_path / "names.npy",)
    short = GraphSmoothing.model_validate({"prototypes": ((1.0, 0.0), (0.0, 1.0))})
    with pytest.raises(InputError, match="2 prototypes for 4 classes"):
        memory_of(short, student, teacher)


def test_patches_are_compared_where_the_label_s_class_is_seen() -> None:
    loss = GraphSmoothing.model_validate({"patches": True, "gamma": 0})
    mine, yours = random(3, C, 2, 2), random(3, C, 2, 2, seed=1)
    student, teacher = Answer({"map": mine}), Answer({"map": yours})
    step = make_step(student, teacher, valid=torch.tensor([True, True, False]))
    found = loss(step, memory_of(loss, student, teacher))
    for sample, label in ((0, 0), (1, 2)):
        p, q = (logits.softmax(1)[sample, label].flatten() for logits in (mine, yours))
        p, q = p / p.sum(), q / q.sum()
        torch.testing.assert_close(found[sample], (q * (q / p).log()).sum() / 4)
    assert found[2] == 0
    same = loss(make_step(teacher, teacher), memory_of(loss, teacher, teacher))
    assert same.abs().max() < 1e-9


def test_patches_that_are_padding_do_not_count() -> None:
    loss = GraphSmoothing(patches=True)
    mine, yours = random(3, C, 2, 3), random(3, C, 2, 3, seed=1)
    valid = torch.tensor([[[True, True, False]] * 2] * 3)
    whole = make_step(Answer({"map": mine}), Answer({"map": yours}), valid=valid)
    cut = make_step(Answer({"map": mine[..., :2]}), Answer({"map": yours[..., :2]}))
    found, expected = (loss(step, memory_of(loss, step.student, step.the_teacher)) for step in (whole, cut))
    torch.testing.assert_close(found, expected)


def test_patches_without_a_map_are_refused() -> None:
    loss = GraphSmoothing(patches=True)
    student, teacher = answers(loss, seed=1)
    with pytest.raises(InputError, match=r"over a map.*\(3, 4\)"):
        memory_of(loss, student, teacher)
