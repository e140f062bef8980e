"""A teacher of which only vectors are known."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.losses.crossmodal.pooling import pooled
from edgekd.losses.feature.counted import counted
from edgekd.losses.feature.feature_loss import PENULTIMATE
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.step import Answer, Setup, Step, at_least_float32, merged


def manifold_distance(student: Tensor, teacher: Tensor, euclidean: float = 1.0, cosine: float = 1.0) -> Tensor:
    """Return l_e mean((u - v)^2) + l_c (1 - cos(u, v)), (N,), of points u, v of one space (N, D)."""
    teacher = teacher.detach()
    squares = (student - teacher).square().mean(-1)
    return euclidean * squares + cosine * (1 - functional.cosine_similarity(student, teacher, dim=-1))


class Aligner(nn.Module):
    """Maps of the student's state and the teacher's vector into one space, and back to the teacher's vector."""

    def __init__(self, student: int, teacher: int, width: int) -> None:
        super().__init__()
        self.student = nn.Linear(student, width)
        self.teacher = nn.Linear(teacher, width)
        self.back = nn.Linear(width, teacher)

    def points(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points u and v (N, width), each scaled to mean 0 and variance 1."""
        mine, yours = self.student(student), self.teacher(teacher)
        return functional.layer_norm(mine, mine.shape[1:]), functional.layer_norm(yours, yours.shape[1:])


class BlackBoxAligner(Loss):
    """The student's state and the teacher's vector meet in a shared space: Euclidean and cosine distance.

    Only a stored vector of each sample is needed; the teacher is neither trained nor opened. The teacher's map is trained
    apart, to give the vector back, so that the space cannot shrink to a point.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Black-box aligner"
    source: ClassVar[str] = "ARMADA, arXiv 2603.10877, TS-Aligner"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "linear maps; the teacher's learns to give its vector back, the student's to meet it"
    applies: ClassVar[str] = "a teacher of any modality behind an interface, as stored vectors (N, D)"
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"
    exempt: ClassVar[dict[str, str]] = {"zero": "P_S h - P_T h is not 0, for the maps P_S and P_T start at random"}

    kind: Literal["black-box-aligner"] = "black-box-aligner"
    tap: str = Field(default=PENULTIMATE, description="the student's state")
    embedding: str | None = Field(
        default=None, description="the teacher's output that is its vector; not set: the first"
    )
    teacher_tap: str | None = Field(default=None, description="a tap of the teacher, in place of an output")
    width: int = Field(default=128, ge=2, description="width of the shared space")
    euclidean: float = Field(default=1.0, ge=0, description="coefficient of the Euclidean term")
    cosine: float = Field(default=1.0, ge=0, description="coefficient of the cosine term")

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's tap."""
        return (self.tap,)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the teacher's tap, where one is asked for."""
        return () if self.teacher_tap is None else (self.teacher_tap,)

    def prepare(self, setup: Setup) -> Aligner:
        """Return the aligner."""
        student, teacher = self._vectors(setup.student, merged(setup.teachers), None)
        return Aligner(student.shape[1], teacher.shape[1], self.width).to(student.device, student.dtype)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the distance of every sample."""
        assert isinstance(memory, Aligner)
        student, teacher = self._vectors(step.student, step.the_teacher, step.valid)
        distance = manifold_distance(*memory.points(student, teacher), self.euclidean, self.cosine)
        return distance * (teacher != 0).any(1)  # zeros: the teacher was not asked

    def own_loss(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return how far the teacher's vectors are from being given back."""
        assert isinstance(memory, Aligner)
        vectors = self._vectors(step.student, step.the_teacher, step.valid)
        student, teacher = (counted(side, step) for side in vectors)
        if not len(teacher):
            return vectors[0].sum() * 0
        _, point = memory.points(student.detach(), teacher)
        wanted = functional.layer_norm(teacher, teacher.shape[1:])
        return functional.mse_loss(memory.back(point), wanted)

    def _vectors(self, student: Answer, teacher: Answer, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        yours = teacher.output(self.embedding) if self.teacher_tap is None else teacher.features[self.teacher_tap]
        mine = at_least_float32(student.features[self.tap])
        return pooled(mine, valid), pooled(at_least_float32(yours.detach()), valid)
