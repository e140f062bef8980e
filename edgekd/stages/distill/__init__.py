"""Distillation: a network learns from a teacher, by default from what it was before it was compressed."""

from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.distill.stage import STAGE

__all__ = ["STAGE", "DistillSettings"]
