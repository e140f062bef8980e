"""The teacher's answer, smoothed along a graph of similar classes."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.labels import known_labels
from edgekd.losses.logit.class_means import ClassMeans, class_means
from edgekd.losses.logit.kl import divergence
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.rows import Rows, read_rows
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


def with_unseen(graph: Tensor, classes: int, share: float = 0.1) -> Tensor:
    """Return W_bb + share W_bn W_nb (C, C): classes are also alike through those that are not trained on.

    Args:
        graph: W (K, K) of all classes, the C trained ones first.
        classes: C.
        share: of the way through the others.
    """
    base, there, back = graph[:classes, :classes], graph[:classes, classes:], graph[classes:, :classes]
    return base + share * there @ back


def graph_smoothed_kl(student: Tensor, teacher: Tensor, graph: Tensor, gamma: float = 0.3) -> Tensor:
    """Return KL(q~ || p_S) / C for every element of logits (..., C); no gradient flows into teacher or graph."""
    log_target = smoothed(teacher.detach(), graph.detach(), gamma)
    log_student = torch.log_softmax(at_least_float32(student), -1)
    return divergence(log_target, log_student) / student.shape[-1]


def label_patches_kl(
    student: Tensor, teacher: Tensor, labels: Tensor, graph: Tensor, gamma: float = 0.3, valid: Tensor | None = None
) -> Tensor:
    """Return KL(q~_y || p_S,y) / P over the patches, (N,): where, for the class y of its label, the evidence lies.

    log q~ and log p_S give a log probability for every patch and class; those of y, over the patches, are scaled to sum
    to 1.

    Args:
        student: logits (N, ..., C) of the P patches of N samples.
        teacher: logits of the same shape; no gradient flows into them.
        labels: y (N,), any number below 0 for none.
        graph: W (C, C).
        gamma: share of the similar classes in q~.
        valid: which patches count, a boolean (N, ...); None: all.
    """
    log_target = smoothed(teacher.detach(), graph.detach(), gamma)
    log_student = torch.log_softmax(at_least_float32(student), -1)
    own = labels.clamp(min=0)
    target, mine = (
        side[torch.arange(len(own), device=own.device), ..., own].flatten(1) for side in (log_target, log_student)
    )
    counted = torch.ones_like(mine, dtype=torch.bool) if valid is None else valid.flatten(1)
    target, mine = (side.masked_fill(~counted, torch.finfo(side.dtype).min).log_softmax(-1) for side in (target, mine))
    return divergence(target, mine) / counted.sum(1).clamp(min=1)


class GraphSmoothing(OutputLoss):
    """KL to the teacher's log probabilities smoothed over similar classes, or over the patches that show the label's."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Graph-smoothed teacher (OGKD)"
    source: ClassVar[str] = "OGKD, github.com/tientrandinh/OGKD, global (GAD) and label-guided patch loss (LGD)"
    evidence: ClassVar[Evidence] = "C"
    variant: ClassVar[str] = (
        "prototypes are the class means of the teacher's probabilities where no table is given; the smoothed answer, and "
        "what a label's patches show, are normalised"
    )
    applies: ClassVar[str] = (
        "many classes, some of them alike: (N, C), maps (N, C, H, W); patches: maps of one label a sample"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "labels"})
    exempt: ClassVar[dict[str, str]] = {
        "zero": "the target q~ ~ q_T^(1 - gamma) prod_i q_T,i^(gamma W_i) is q_T for gamma = 0 only"
    }

    kind: Literal["graph-smoothing"] = "graph-smoothing"
    gamma: Share = Field(default=constant(0.3), description="share of the similar classes in the target")
    alpha: float = Field(default=4.0, ge=0, description="how sharply similar classes are told from others")

    prototypes: Rows | None = Field(
        default=None,
        description="an .npy file of a vector a class (K, D), such as embeddings of their names, or the rows; those behind "
        "the classes of the data are of classes that are not trained on; not set: class means",
    )
    unseen: float = Field(default=0.1, ge=0, description="share of the way through classes that are not trained on")
    patches: bool = Field(
        default=False, description="compare over a map's positions, for the class of the sample's label"
    )

    @property
    def needed(self) -> frozenset[str]:
        """Return what is needed: given prototypes, outside patches, do without labels."""
        without = self.prototypes is not None and not self.patches
        return self.needs - {"labels"} if without else self.needs

    def prepare(self, setup: Setup) -> nn.Module:
        """Return the graph of the prototypes, else the table of class means, one-hot (no two classes alike) at first.

        Raises:
            InputError: there are no classes, the output does not have them, or a class has no prototype.
        """
        teacher = next(iter(setup.teachers.values()))
        means = class_means(self.kind, setup, teacher, self.output, "one-hot")
        classes = len(means.table)
        if self.patches and teacher.output(self.output).ndim < 3:
            raise InputError(
                f"{self.kind}: patches are compared over a map, and the output has the shape "
                f"{tuple(teacher.output(self.output).shape)}; name an output with one: output = NAME"
            )
        if self.prototypes is None:
            return means
        rows = read_rows(self.kind, self.prototypes)
        if len(rows) < classes:
            raise InputError(f"{self.kind}: there are {len(rows)} prototypes for {classes} classes; give one for each")
        return Graph(with_unseen(class_graph(rows, self.alpha), classes, self.unseen))

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the divergence of every element, or of every sample's patches.

        Raises:
            InputError: patches are to be compared, and a sample has more than one label.
        """
        gamma = self.gamma.at(step.progress)
        if "labels" not in self.needed:
            assert isinstance(memory, Graph)
            return graph_smoothed_kl(student, teacher, memory.weights.to(student.dtype), gamma)
        labels = known_labels(step, self.kind)
        if self.patches and labels.ndim != 1:
            raise InputError(
                f"{self.kind}: patches need one label a sample, not {tuple(labels.shape)}; patches = false"
            )
        if isinstance(memory, ClassMeans):
            each = labels.reshape(-1, *(1,) * (teacher.ndim - 2)).expand(teacher.shape[:-1]) if self.patches else labels
            memory.add(teacher.softmax(-1), each, step)
            graph = class_graph(memory.table, self.alpha)
        else:
            assert isinstance(memory, Graph)
            graph = memory.weights.to(student.dtype)
        if not self.patches:
            return graph_smoothed_kl(student, teacher, graph, gamma)
        valid = step.valid if step.valid is not None and step.valid.shape == student.shape[:-1] else None
        return label_patches_kl(student, teacher, labels, graph, gamma, valid) * (labels >= 0)

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Take the epoch's class means into use."""
        if isinstance(memory, ClassMeans):
            memory.renew()


class Graph(nn.Module):
    """W (C, C) of prototypes that do not change."""

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)  # made again from the prototypes
