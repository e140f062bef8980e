"""The teacher's answer, smoothed along a graph of similar classes."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.logit.class_means import ClassMeans, class_means, labels_of
from edgekd.losses.logit.kl import divergence
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Share, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def class_graph(prototypes: Tensor, alpha: float = 4.0) -> Tensor:
    """Return W (C, C), every row a softmax of alpha cos(g_i, g_j), of the classes' prototypes g (C, D)."""
    directions = functional.normalize(at_least_float32(prototypes), dim=-1)
    return torch.softmax(alpha * directions @ directions.T, -1)


def smoothed(teacher: Tensor, graph: Tensor, gamma: float = 0.3) -> Tensor:
    """Return log q~ = (1 - gamma) log q_T + gamma (log q_T) W, normalised again so that q~ sums to 1.

    Args:
        teacher: logits (..., C).
        graph: W (C, C).
        gamma: share of the neighbours, 0 to 1.

    Returns:
        log probabilities (..., C), in at least float32.
    """
    log_teacher = torch.log_softmax(at_least_float32(teacher), -1)
    return torch.log_softmax((1 - gamma) * log_teacher + gamma * log_teacher @ graph, -1)


def graph_smoothed_kl(student: Tensor, teacher: Tensor, graph: Tensor, gamma: float = 0.3) -> Tensor:
    """Return KL(q~ || p_S) / C for every element of logits (..., C); no gradient flows into teacher or graph."""
    log_target = smoothed(teacher.detach(), graph.detach(), gamma)
    log_student = torch.log_softmax(at_least_float32(student), -1)
    return divergence(log_target, log_student) / student.shape[-1]


class GraphSmoothing(OutputLoss):
    """KL to the teacher's log probabilities smoothed over similar classes."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Graph-smoothed teacher (OGKD)"
    source: ClassVar[str] = "OGKD, github.com/tientrandinh/OGKD, global loss (GAD)"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = (
        "prototypes are the class means of the teacher's probabilities; the smoothed answer is normalised"
    )
    applies: ClassVar[str] = "many classes, some of them alike: (N, C), maps (N, C, H, W)"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "labels"})
    exempt: ClassVar[dict[str, str]] = {
        "zero": "the target q~ ~ q_T^(1 - gamma) prod_i q_T,i^(gamma W_i) is q_T for gamma = 0 only"
    }

    kind: Literal["graph-smoothing"] = "graph-smoothing"
    gamma: Share = Field(default=constant(0.3), description="share of the similar classes in the target")
    alpha: float = Field(default=4.0, ge=0, description="how sharply similar classes are told from others")

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return the table of class means, one-hot (no two classes alike) at first.

        Raises:
            InputError: there are no classes, or the output does not have them.
        """
        return class_means(self.kind, setup, next(iter(setup.teachers.values())), self.output, "one-hot")

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the divergence of every element."""
        assert isinstance(memory, ClassMeans)
        memory.add(teacher.softmax(-1), labels_of(step), step)
        return graph_smoothed_kl(student, teacher, class_graph(memory.table, self.alpha), self.gamma.at(step.progress))

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Take the epoch's class means into use."""
        if isinstance(memory, ClassMeans):
            memory.renew()
