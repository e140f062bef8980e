"""Differences of the leading logits, as many as stand before the bend of the teacher's answer (DBiLD)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.logit.kl import divergence
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32

OUTSIDE = -1e9  # a logit that no softmax sees, finite so that 0 x its logarithm is 0


def knee(logits: Tensor, lowest: int = 4, highest: int = 64, candidates: int = 256) -> Tensor:
    """Return how many classes lead, up to the bend of the sorted probabilities (Kneedle), for every element.

    With ranks r and probabilities v of the first candidates, both scaled to [0, 1]: the rank, counted from 1, of the
    largest (1 - v) - r, Satopää et al., 2011, for a convex curve that falls. Where the curve is flat: `lowest`.

    Args:
        logits: (..., C).
        lowest: least number returned.
        highest: largest number returned; C is a limit too.
        candidates: classes looked at, from the most probable on.

    Returns:
        whole numbers (...).
    """
    classes = logits.shape[-1]
    ranked = torch.softmax(at_least_float32(logits.detach()), -1).topk(min(candidates, classes)).values
    first, last = ranked[..., :1], ranked[..., -1:]
    height = (ranked - last) / (first - last).clamp(min=torch.finfo(ranked.dtype).tiny)
    rank = torch.linspace(0, 1, ranked.shape[-1], dtype=ranked.dtype, device=ranked.device)
    return ((1 - height - rank).argmax(-1) + 1).clamp(min(lowest, classes), min(highest, classes))


def dbild(
    student: Tensor,
    teacher: Tensor,
    k: Tensor | int,
    temperature: float = 3.0,
    direction: Literal["reverse", "forward"] = "reverse",
) -> Tensor:
    """Return L_t + L_s, divergences between the differences of the k leading logits, for every element.

    L = KL(q_S || q_T) with q = softmax over the pairs i < j of (z_i - z_j) / T; forward: KL(q_T || q_S). For L_t the k
    leading classes, and their order, are the teacher's, for L_s the student's. No T². arXiv 2604.14629; forward with k = 8
    is BiLD.

    Args:
        student: logits (..., C).
        teacher: logits of the same shape; no gradient flows into them.
        k: how many classes lead, a number or (...); at least 3, since the softmax of one pair is 1.
        temperature: T > 0.
        direction: which divergence.

    Returns:
        (...), in at least float32.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    count = torch.as_tensor(k, device=student.device).expand(student.shape[:-1])
    reach = min(int(count.max()), student.shape[-1])
    first, second = torch.triu_indices(reach, reach, 1, device=student.device)
    outside = second >= count[..., None]

    def pairs(logits: Tensor, leaders: Tensor) -> Tensor:
        led = logits.gather(-1, leaders) / temperature
        return (led[..., first] - led[..., second]).masked_fill(outside, OUTSIDE).log_softmax(-1)

    total = torch.zeros_like(student[..., 0])
    for leading in (teacher, student.detach()):
        leaders = leading.topk(reach, -1).indices
        mine, yours = pairs(student, leaders), pairs(teacher, leaders)
        total = total + (divergence(mine, yours) if direction == "reverse" else divergence(yours, mine))
    return total


class Pairwise(OutputLoss):
    """What the losses of pairwise differences share."""

    capability: ClassVar[Capability] = "C01"
    evidence: ClassVar[Evidence] = "C"

    k: Annotated[int, Field(ge=3)] | Literal["knee"] = Field(
        default="knee", description="leading classes compared; knee: up to the bend of the teacher's probabilities"
    )
    cap: int = Field(default=64, ge=4, description="most leading classes; the pairs grow with the square")
    temperature: Temperature = Field(default=constant(3.0), description="T of the differences")
    direction: Literal["reverse", "forward"] = Field(
        default="reverse", description="KL of the student to the teacher, or the other way"
    )

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return nothing; see that there is more than one pair.

        Raises:
            InputError: there are fewer than three classes.
        """
        if setup.classes is not None and setup.classes < 3:
            raise InputError(f"{self.kind}: {setup.classes} classes make one pair, whose softmax is always 1; use kl")
        return None

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the divergence of every element."""
        k = knee(teacher, highest=self.cap) if self.k == "knee" else min(self.k, self.cap)
        return dbild(student, teacher, k, self.temperature.at(step.progress), self.direction)


class Dbild(Pairwise):
    """Reverse KL between pairwise differences of the leading logits, led by the teacher and by the student."""

    title: ClassVar[str] = "Dynamic bi-directional logit differences (DBiLD)"
    source: ClassVar[str] = "Switch-KD, arXiv 2604.14629; base: BiLD, arXiv 2406.13555"
    variant: ClassVar[str] = "the knee's limits (4 to 64 of 256 candidates) and one k, the teacher's, for both sets"
    applies: ClassVar[str] = "three classes or more, large vocabularies above all: (N, C), (N, C, H, W), (N, L, C)"

    kind: Literal["dbild"] = "dbild"
