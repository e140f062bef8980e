"""Student and teacher see different samples: their distributions are aligned."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.crossmodal.pooling import pooled
from edgekd.losses.crossmodal.sinkhorn import sinkhorn_divergence
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.labels import sample_labels
from edgekd.losses.loss import Capability, Evidence
from edgekd.losses.schedule import Schedule, constant
from edgekd.losses.step import Setup, Step, as_classes

Cloud = tuple[Tensor, ...]  # features (N, D), log-probabilities (N, C)
BETAS, TINY = (0.9, 0.999), 1e-8  # Adam's


def ground_cost(mine: Cloud, yours: Cloud, rho: float = 1.0) -> Tensor:
    """Return c_ij = |f_i - g_j|^2 + rho (KL(p_i || q_j) + KL(q_j || p_i)) / 2, (N, M).

    rho > 0 keeps a sample from being matched with those of another class.

    Args:
        mine: f (N, D) and log p (N, C).
        yours: g (M, D) and log q (M, C).
        rho: how much the predictions count.
    """
    (f, log_p), (g, log_q) = mine, yours
    squares = f.square().sum(1)[:, None] + g.square().sum(1) - 2 * f @ g.T
    p, q = log_p.exp(), log_q.exp()
    # Half of sum_c (p - q)(log p - log q), multiplied out so that nothing of size (N, M, C) is made.
    kl = (p * log_p).sum(1)[:, None] + (q * log_q).sum(1) - p @ log_q.T - log_p @ q.T
    return squares + rho * kl / 2


def class_mean_distance(mine: Tensor, labels: Tensor, yours: Tensor, your_labels: Tensor) -> Tensor:
    """Return the mean of |mu_S^c - mu_T^c|^2 over the classes c that both have, with mu^c the mean prediction of class c.

    Args:
        mine: probabilities (N, C).
        labels: their classes (N,), negative where unknown.
        yours: probabilities (M, C).
        your_labels: their classes (M,).
    """
    means, counts = zip(*(_class_means(p, y) for p, y in ((mine, labels), (yours, your_labels))), strict=True)
    both = (counts[0] > 0) & (counts[1] > 0)
    distance = (means[0] - means[1]).square().sum(1)
    return (distance * both).sum() / both.sum().clamp(min=1)


def _class_means(p: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    member = functional.one_hot(labels.clamp(min=0), p.shape[1]).to(p.dtype) * (labels >= 0)[:, None]
    counts = member.sum(0)
    return member.T @ p / counts.clamp(min=1)[:, None], counts


class TeacherMap(nn.Module):
    """psi: a linear map of the teacher's features into the student's space, with Adam of its own.

    Everything is a buffer, so that the student's optimizer leaves it alone.
    """

    weight: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, teacher: int, student: int) -> None:
        super().__init__()
        weight = torch.eye(teacher) if teacher == student else torch.randn(student, teacher) / teacher**0.5
        self.register_buffer("weight", weight)
        self.register_buffer("mean", torch.zeros_like(weight))
        self.register_buffer("square", torch.zeros_like(weight))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return features of unit length (M, D_S) from the teacher's (M, D_T)."""
        return functional.normalize(
            functional.normalize(teacher, dim=1) @ (self.weight if weight is None else weight).T
        )

    @torch.no_grad()
    def descend(self, gradient: Tensor, rate: float) -> None:
        """Take one step of Adam."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.lerp_(gradient.square(), 1 - BETAS[1])
        mean, square = self.mean / (1 - BETAS[0] ** self.steps), self.square / (1 - BETAS[1] ** self.steps)
        self.weight -= rate * mean / (square.sqrt() + TINY)


class UnpairedAlignment(FeatureLoss):
    """lambda_f S_e(f_S, psi(f_T)) + lambda_y |mu_S - mu_T|^2: features by optimal transport, labels by class means.

    Before each use, `inner_steps` steps fit psi to the detached student features. Features are of unit length, so that
    epsilon means the same everywhere. A large lambda_f without the label term lowers accuracy: the paper warns of it.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Unpaired alignment"
    source: ClassVar[str] = "UCMKD, arXiv 2606.10504, bound of feature and label discrepancy"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "Sinkhorn divergence, linear psi fitted by Adam, unit features, mean over classes"
    applies: ClassVar[str] = "classifiers (N, C) whose modalities were never recorded together; needs labels of both"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "features", "labels", "batch"})
    elementwise: ClassVar[bool] = False

    kind: Literal["unpaired-alignment"] = "unpaired-alignment"
    feature_weight: Schedule = Field(
        default=Schedule(start=0.0, end=0.1, until=0.1), description="lambda_f, with a warm-up"
    )
    label_weight: Schedule = Field(default=constant(1.0), description="lambda_y")
    rho: float = Field(default=1.0, ge=0, description="how much predictions count in the ground cost")
    epsilon: float = Field(default=0.05, gt=0, description="blur of the transport plan")
    iterations: int = Field(default=30, ge=1, description="Sinkhorn iterations")
    inner_steps: int = Field(default=5, ge=0, description="K, steps that fit psi")
    inner_rate: float = Field(default=0.01, gt=0, description="their learning rate")

    @classmethod
    def example(cls) -> "UnpairedAlignment":
        """Return settings whose psi stands still: fitted, it follows the student where no gradient flows."""
        return cls(inner_steps=0)

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> TeacherMap:
        """Return psi.

        Raises:
            InputError: the main outputs are not (N, C) of the same classes.
        """
        mine, yours = (tuple(one.output().shape[1:]) for one in (setup.student, next(iter(setup.teachers.values()))))
        if len(mine) != 1 or mine != yours:
            raise InputError(
                f"{self.kind}: the student's output has the shape {mine}, the teacher's {yours}; it is for classifiers "
                "of the same classes"
            )
        student = pooled(student)
        return TeacherMap(pooled(teacher).shape[1], student.shape[1]).to(student.device)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return both terms."""
        labels = sample_labels(step, self.kind)
        mine, yours = self._predictions(step)
        your_labels = step.teacher_targets if step.teacher_targets is not None else labels
        label = class_mean_distance(mine.exp(), step.gather(labels), yours.exp(), step.gather(your_labels))
        feature_weight = self.feature_weight.at(step.progress)
        feature = super().__call__(step, memory) if feature_weight else 0.0
        return feature_weight * feature + self.label_weight.at(step.progress) * label

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the Sinkhorn divergence of the features, with psi fitted first."""
        assert isinstance(memory, TeacherMap)
        f = functional.normalize(step.gather(pooled(student, step.valid)))
        g = step.gather(pooled(teacher, step.teacher_valid).detach())
        log_p, log_q = self._predictions(step)
        if step.valid is not None and step.valid.ndim == 1:
            counts = step.gather(step.valid)
            f, log_p = f[counts], log_p[counts]
            if step.teacher_targets is None:  # the same samples
                g, log_q = g[counts], log_q[counts]
        if not len(f) or not len(g):
            return f.sum()
        if torch.is_grad_enabled():
            for _ in range(self.inner_steps):
                weight = memory.weight.clone().requires_grad_()
                inner = self._divergence((f.detach(), log_p.detach()), (memory(g, weight), log_q))
                memory.descend(torch.autograd.grad(inner, weight)[0], self.inner_rate)
        return self._divergence((f, log_p), (memory(g), log_q))

    def _divergence(self, mine: Cloud, yours: Cloud) -> Tensor:
        return sinkhorn_divergence(
            mine, yours, lambda one, other: ground_cost(one, other, self.rho), self.epsilon, self.iterations
        )

    def _predictions(self, step: Step) -> tuple[Tensor, Tensor]:
        mine, yours = step.class_last(step.student.output()), step.class_last(step.the_teacher.output()).detach()
        mine, yours = as_classes(step.gather(mine)), as_classes(step.gather(yours))
        return torch.log_softmax(mine, 1), torch.log_softmax(yours, 1)
