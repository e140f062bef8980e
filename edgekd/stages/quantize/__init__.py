"""Quantization: weights and activations become small integers, as the target's runtime wants them."""

from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.stages.quantize.stage import STAGE

__all__ = ["STAGE", "QuantizeSettings"]
