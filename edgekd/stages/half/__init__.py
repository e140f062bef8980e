"""Half precision: what a network computes in float32 goes to float16."""

from edgekd.stages.half.settings import HalfSettings
from edgekd.stages.half.stage import STAGE

__all__ = ["STAGE", "HalfSettings"]
