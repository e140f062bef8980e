"""Weight-only quantization: weights of linear layers in 8 or 4 bits, in blocks along the inputs; no activation is touched."""

from edgekd.stages.quantize.weight_only.settings import WeightOnlySettings
from edgekd.stages.quantize.weight_only.stage import STAGE

__all__ = ["STAGE", "WeightOnlySettings"]
