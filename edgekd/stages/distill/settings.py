"""Settings of distillation."""

from typing import Literal

from pydantic import Field

from edgekd.recipe import StageSettings
from edgekd.training.loop import TrainingSettings


class DistillSettings(TrainingSettings, StageSettings):
    """Train with (1 - alpha) task loss + alpha T² KL to the teacher's softened answers.

    Without labels only the teacher counts, whatever `alpha` is.
    """

    kind: Literal["distill"] = "distill"
    alpha: float = Field(default=0.7, gt=0, le=1, description="weight of the teacher against the labels")
    temperature: float = Field(default=4.0, gt=0, le=100, description="softens the answers of teacher and student")
