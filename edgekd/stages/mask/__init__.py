"""Masks: the least weights become zero, one by one, and stay zero through everything that follows."""

from edgekd.stages.mask.settings import MaskSettings
from edgekd.stages.mask.stage import STAGE

__all__ = ["STAGE", "MaskSettings"]
