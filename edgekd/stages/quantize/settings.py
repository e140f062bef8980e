"""Settings of static quantization."""

from typing import Literal

from pydantic import Field

from edgekd.recipe import StageSettings

Calibrator = Literal["min-max", "percentile", "entropy", "mse"]


class QuantizeSettings(StageSettings):
    """Static int8 in Q/DQ form, with ranges from the calibration part. The scheme comes from the target.

    All `calibrators` are tried and the validation part picks. `bias_correction` takes the mean error of the rounded
    weights out of the biases. `keep_float` names ONNX nodes or operator types that stay in float. So do convolutions of
    fewer than `least_channels` input channels: dot-product instructions take four 8-bit values at a time.
    """

    kind: Literal["quantize"] = "quantize"
    calibrators: tuple[Calibrator, ...] = Field(default=("min-max", "percentile", "mse", "entropy"), min_length=1)
    percentile: float = Field(default=99.99, gt=50, le=100)
    bias_correction: bool = True
    least_channels: int = Field(default=4, ge=1)
    keep_float: tuple[str, ...] = ()
