"""What training minimizes: the task's own loss, and the distance to a teacher, by task."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from edgekd.losses import temperature_kl
from edgekd.models.signature import Task

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """(1 - alpha) task + alpha distillation; `alpha` 0 is training without a teacher, 1 needs no targets.

    Source: Hinton et al., 2015; the task's loss is cross-entropy, squared error or reconstruction error.
    """

    task: Task
    alpha: float
    temperature: float

    def __call__(self, student: Outputs, teacher: Outputs | None, targets: Tensor | None, inputs: Outputs) -> Tensor:
        """Return the scalar loss of a batch.

        Args:
            student: named outputs; the task's loss looks at the first.
            teacher: named outputs of the same shapes, or None where alpha is 0.
            targets: class indices (N,), masks (N, H, W), values, or None where alpha is 1 or the task needs none.
            inputs: the batch's inputs; the target of a reconstruction.
        """
        first = next(iter(student.values())).float()
        parts: list[Tensor] = []
        if self.alpha < 1:
            parts.append((1 - self.alpha) * self._task_loss(first, targets, inputs))
        if self.alpha > 0 and teacher is not None:
            distances = [self._distance(student[name], teacher[name], targets) for name in student]
            parts.append(self.alpha * sum(distances[1:], distances[0]) / len(distances))
        return sum(parts[1:], parts[0])

    def _task_loss(self, output: Tensor, targets: Tensor | None, inputs: Outputs) -> Tensor:
        if self.task == "anomaly":
            return functional.mse_loss(output, next(iter(inputs.values())).reshape(output.shape).float())
        assert targets is not None
        if self.task == "regression":
            return functional.mse_loss(output, targets.reshape(output.shape).float())
        if output.shape[1] == 1:
            valid = targets >= 0
            return functional.binary_cross_entropy_with_logits(output[:, 0][valid], targets[valid].float())
        return functional.cross_entropy(output, targets.long(), ignore_index=-1)

    def _distance(self, student: Tensor, teacher: Tensor, targets: Tensor | None) -> Tensor:
        if self.task in ("classification", "segmentation") and student.ndim > 1 and student.shape[1] > 1:
            masked = self.task == "segmentation" and targets is not None
            return temperature_kl(
                student, teacher, self.temperature, valid=targets >= 0 if masked and targets is not None else None
            )
        return functional.mse_loss(student.float(), teacher.detach().float())
