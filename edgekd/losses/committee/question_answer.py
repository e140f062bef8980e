"""The student asks each teacher a question, and learns from answers in its own space."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.committee.learned_importance import load_balance, log_importance
from edgekd.losses.crossmodal.pooling import pooled
from edgekd.losses.feature.feature_loss import PENULTIMATE
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.step import Setup, Step, at_least_float32, merged


def answer_distance(student: Tensor, answers: Tensor, log_pi: Tensor) -> Tensor:
    """Return sum_k pi_k || norm(h_S) - norm(a_k) ||^2, (N,), with norm(x) = x / |x|.

    Args:
        student: h_S (N, D).
        answers: a_k (K, N, D).
        log_pi: log of the teachers' importances (K, N).
    """
    distance = (functional.normalize(student, dim=-1) - functional.normalize(answers, dim=-1)).square().sum(-1)
    return (log_pi.exp() * distance).sum(0)


class Teller(nn.Module):
    """The question to one teacher, and its answer: a = V ((1 + tanh(G q)) * norm(h_T)), q = tanh(W h_S + b).

    The question scales channels of the teacher's feature. It is short and adds nothing to them, else the answer could
    repeat the student's feature without the teacher.
    """

    width: int

    def __init__(self, student: int, teacher: int, width: int) -> None:
        super().__init__()
        self.width = teacher
        self.question = nn.Linear(student, width)
        self.film = nn.Linear(width, teacher)
        self.answer = nn.Linear(teacher, student)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the answer (N, D_S) to the student's feature (N, D_S), from the teacher's (N, D_T)."""
        scale = 1 + torch.tanh(self.film(torch.tanh(self.question(student))))
        return self.answer(scale * functional.layer_norm(teacher, teacher.shape[1:]))


class Tellers(nn.Module):
    """One question and answer a teacher, and the gate of their importances."""

    def __init__(self, student: int, teachers: list[int], width: int) -> None:
        super().__init__()
        self.tellers = nn.ModuleList(Teller(student, teacher, width) for teacher in teachers)
        self.gate = nn.Linear(student, len(teachers))


class QuestionAnswer(Loss):
    """The student's feature and the answers of frozen teachers to its questions, by learned importance."""

    capability: ClassVar[Capability] = "C04"
    title: ClassVar[str] = "Question and answer with several teachers"
    source: ClassVar[str] = "DiverseDistill, arXiv 2402.14035, question-answer module"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = (
        "the question scales channels of a captured feature (FiLM without a bias); the teacher's later layers are not run on it"
    )
    applies: ClassVar[str] = "teachers of any architecture and modality; features are averaged over positions"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "batch"})
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "norm(h_S) - norm(V(s * h_T)) is not 0 at h_S = h_T, for V and s are learned from random ones",
        "gradient": "sum_k pi_k(sg h_S) |norm(h_S) - norm(a_k(sg h_S))|^2: the question and the gate read the student only",
    }

    kind: Literal["question-answer"] = "question-answer"
    tap: str = Field(default=PENULTIMATE, description="the student's feature")
    taps: tuple[str, ...] = Field(
        default=(PENULTIMATE,), min_length=1, description="what is asked, one tap a teacher, written `TEACHER/PATH`"
    )
    question: int = Field(
        default=8, ge=1, description="length of a question; short, so that answers come from the teacher"
    )
    balance: float = Field(default=0.01, ge=0, description="coefficient of the load regulariser")

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's tap."""
        return (self.tap,)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the taps of all teachers."""
        return self.taps

    def prepare(self, setup: Setup) -> Tellers:
        """Return the questions, answers and gate."""
        student = pooled(at_least_float32(setup.student.features[self.tap]))
        features = merged(setup.teachers).features
        widths = [pooled(features[tap]).shape[1] for tap in self.taps]
        return Tellers(student.shape[1], widths, self.question).to(student.device, student.dtype)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the distance of every sample; teachers that were not run on a sample have no part in it."""
        assert isinstance(memory, Tellers)
        student = pooled(at_least_float32(step.student.features[self.tap]), step.valid)
        answers, present = [], []
        for tap, teller in zip(self.taps, memory.tellers, strict=True):
            assert isinstance(teller, Teller)
            found = step.the_teacher.features.get(tap)  # none where the teacher was not run on any of the samples
            feature = (
                student.new_zeros(len(student), teller.width)
                if found is None
                else pooled(at_least_float32(found), step.valid)
            )
            answers.append(teller(student.detach(), feature.detach()))
            present.append((feature != 0).any(1))
        there = torch.stack(present)
        log_pi = log_importance(memory.gate(student.detach()), there | ~there.any(0))
        return answer_distance(student, torch.stack(answers), log_pi) * there.any(0)

    def own_loss(self, step: Step, memory: nn.Module | None = None) -> Tensor | None:
        """Return the load regulariser of the gate."""
        assert isinstance(memory, Tellers)
        student = pooled(at_least_float32(step.student.features[self.tap].detach()), step.valid)
        return self.balance * load_balance(step.gather(torch.softmax(memory.gate(student), 1)))
