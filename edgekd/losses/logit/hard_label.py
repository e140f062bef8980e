"""The teacher's decision as label."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.step import Step, at_least_float32


def hard_label(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cross-entropy of logits (..., C) to the arg max of the teacher's, for every element.

    Touvron et al., 2021, equation 3. In at least float32; no gradient flows into the teacher.
    """
    log_student = torch.log_softmax(at_least_float32(student), -1)
    return -log_student.gather(-1, teacher.argmax(-1, keepdim=True)).squeeze(-1)


class HardLabel(OutputLoss):
    """Cross-entropy to the teacher's arg max."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Hard labels of the teacher"
    source: ClassVar[str] = "Touvron et al., arXiv 2012.12877, equation 3; SDQN-RMFS, arXiv 2606.20031"
    evidence: ClassVar[Evidence] = "A"
    applies: ClassVar[str] = "data without labels, policies, spiking students: (N, C), (N, C, H, W), (N, L, C)"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "for equal answers CE = -log max p, above 0 unless the answer is certain"
    }

    kind: Literal["hard-label"] = "hard-label"

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the cross-entropy of every element."""
        return hard_label(student, teacher)
