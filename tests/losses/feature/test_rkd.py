import math

import torch
from torch.nn import functional

from edgekd.losses import Answer, Step
from edgekd.losses.feature.rkd import Rkd, angle_loss, angles, distance_loss, distances


def test_distances_are_relative_to_their_mean() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    apart = torch.tensor([5.0, 1.0, math.sqrt(18)])
    torch.testing.assert_close(distances(features), apart / apart.mean())


def test_angles_are_those_of_triangles() -> None:
    corner, right, up = angles(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]))
    torch.testing.assert_close(corner[1, 2], torch.tensor(0.0))
    torch.testing.assert_close(right[0, 2], torch.tensor(math.cos(math.pi / 4)))
    torch.testing.assert_close(up[0, 0], torch.tensor(1.0))


def test_both_terms_are_means_over_pairs_and_triples() -> None:
    student, teacher = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    triples = [(i, j, k) for i, j in pairs for k in range(4) if k not in (i, j)]

    def relations(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        apart = torch.stack([(features[i] - features[j]).norm() for i, j in pairs])
        bent = [
            functional.cosine_similarity(features[i] - features[j], features[k] - features[j], dim=0)
            for i, j, k in triples
        ]
        return apart / apart.mean(), torch.stack(bent)

    (mine, my_angles), (yours, your_angles) = relations(student), relations(teacher)
    torch.testing.assert_close(distance_loss(student, teacher), functional.huber_loss(mine, yours))
    torch.testing.assert_close(angle_loss(student, teacher), functional.huber_loss(my_angles, your_angles))


def test_similar_figures_have_no_loss() -> None:
    student = torch.randn(5, 3, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    teacher = 4 * student @ rotation + 7
    assert distance_loss(student, teacher) < 1e-12 and angle_loss(student, teacher) < 1e-12


def _step(student: torch.Tensor, teacher: torch.Tensor, **fields: object) -> Step:
    mine, yours = Answer({}, {"penultimate": student}), Answer({}, {"penultimate": teacher})
    return Step(mine, {"t": yours}, yours, **fields)  # type: ignore[arg-type]


def test_samples_that_coincide_keep_the_gradient_small() -> None:
    student = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(Rkd()(_step(student, torch.randn(3, 4))), student)
    assert torch.isfinite(gradient).all() and gradient.abs().max() < 100


def test_few_samples_have_no_relations() -> None:
    student = torch.randn(1, 3, requires_grad=True)
    value = Rkd()(_step(student, torch.randn(1, 3)))
    (gradient,) = torch.autograd.grad(value, student)
    assert value == 0 and not gradient.any()


def test_the_batch_is_that_of_all_processes_without_left_out_samples() -> None:
    full = {1: torch.tensor([True, True, False, True]), 3: torch.randn(4, 3), 5: torch.randn(4, 5)}
    alone = Rkd()(_step(full[3][full[1]], full[5][full[1]]))

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        return full[tensor.shape[1] if tensor.ndim == 2 else 1]

    part = Rkd()(_step(full[3][:2], full[5][:2], valid=full[1][:2], gather=gather))
    torch.testing.assert_close(part, alone)
