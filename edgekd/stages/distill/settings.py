"""Settings of distillation."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edgekd.losses import LOSSES, AnyCommittee, AnyFilter, AnyLoss, Loss
from edgekd.losses.schedule import Coefficient, constant
from edgekd.models.signature import Signature, class_axis
from edgekd.recipe import StageSettings
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings
from edgekd.training.task_loss import has_classes

TASK, KL = 0.3, 0.7  # of the default: the task's loss, and the divergence from the teacher


def _usual_losses(signature: Signature) -> tuple[Loss, ...]:
    """Return the divergence for every output that tells classes, the squared error for every other one, of equal weight."""
    outputs = signature.outputs
    losses = []
    for spec in outputs:
        width = spec.shape[class_axis(signature.task)] if len(spec.shape) > 1 else 1
        classes = has_classes(signature.task) and (width != 1 or spec is outputs[0])
        kind, name = "kl" if classes else "mse", None if len(outputs) == 1 else spec.name
        losses.append(LOSSES[kind].model_validate({"weight": KL / len(outputs), "output": name}))
    return tuple(losses)


class DistillSettings(TrainingSettings, StageSettings):
    """Train towards a teacher: task x the task's own loss + the sum of the weighted losses.

    `losses` names methods of `edgekd methods`: `losses = ["kl"]`, or tables with their settings:
    `losses = [{ kind = "kl", temperature = 4, weight = 0.7 }, { kind = "hint", taps = { "stages.1" = "stages.2" } }]`.
    `[[stage.phases]]` trains in several phases, each with its own losses, data and frozen modules. Without labels the task's
    loss is left out.
    """

    kind: Literal["distill"] = "distill"
    task: Coefficient = Field(
        default=constant(TASK), description="coefficient of the task's own loss: a number, or a schedule"
    )
    losses: tuple[AnyLoss, ...] | None = Field(
        default=None,
        description="names, or tables with `kind`; not set: kl with weight 0.7, for values mse",
        examples=[["kl", {"kind": "hint", "weight": 0.5}]],
    )
    committee: AnyCommittee | None = Field(
        default=None, description="how several teachers become one answer", examples=["mean"]
    )
    gradient_filter: AnyFilter | None = Field(
        default=None, description="what is done to the gradients of sample groups", examples=["agreement-mask"]
    )
    freeze: tuple[str, ...] = Field(default=(), description="modules that are not trained, their statistics kept")
    teacher_correction: int = Field(
        default=0,
        ge=0,
        le=1000,
        description=(
            "passes over the train part in which teachers that are networks are fine-tuned on the labels first, with a tenth of "
            "the learning rate; their files stay as they are"
        ),
    )
    teacher_inputs: tuple[str, ...] = Field(
        default=(),
        description="inputs or extras of the data that teachers take; not set: what they name, or the student's",
    )
    teacher_data: str | None = Field(
        default=None,
        description="data of the teachers' own, not paired with the student's; as for --data",
        examples=["other.npz"],
    )
    teacher_cache: Literal["off", "full", "half", "top-k"] = Field(
        default="off", description="keep the teachers' answers on disk: in float32, in float16, or the largest logits"
    )
    cached_variants: int = Field(
        default=1, ge=1, le=100, description="with a cache: how many fixed augmentations of each sample are kept"
    )
    phases: tuple[Phase, ...] = Field(
        default=(), description="`[[stage.phases]]` tables, in place of task, losses and freeze"
    )

    @field_validator("losses", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, (str, dict)) else value

    @model_validator(mode="after")
    def _phases_or_one(self) -> "DistillSettings":
        own = {"task", "losses", "committee", "gradient_filter", "freeze"} & self.model_fields_set
        if self.phases and own:
            raise ValueError(f"with phases, {', '.join(sorted(own))} belong into the [[stage.phases]] tables")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"phases have different names, not {', '.join(names)}")
        if self.mixup:
            phases = self.phases or (Phase(losses=self.losses or ()),)
            needing = {kind for phase in phases for kind in phase.needing_labels()}
            if needing:
                raise ValueError(
                    f"mixup mixes the labels, which {', '.join(sorted(needing))} cannot use; set mixup = 0"
                )
            if self.teacher_cache != "off":
                raise ValueError("mixup makes new inputs in every step, which no teacher_cache can hold")
        return self

    def resolved(self, signature: Signature) -> tuple[Phase, ...]:
        """Return the phases to train, with the losses that suit the outputs where none are named."""
        if self.phases:
            return self.phases
        losses = self.losses if self.losses is not None else _usual_losses(signature)
        return (
            Phase(
                task=self.task,
                losses=losses,
                committee=self.committee,
                gradient_filter=self.gradient_filter,
                freeze=self.freeze,
            ),
        )

    def total_epochs(self, signature: Signature) -> int:
        """Return the passes over their data that all phases make together."""
        return sum(phase.epochs or self.epochs for phase in self.resolved(signature))
