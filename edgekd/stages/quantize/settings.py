"""Settings of static quantization."""

from typing import Literal, Self

from pydantic import Field, model_validator

from edgekd.recipe import StageSettings
from edgekd.target import QuantizationScheme

Calibrator = Literal["min-max", "percentile", "entropy", "mse"]
Rounding = Literal["nearest", "least-output-error"]


class QuantizeSettings(StageSettings):
    """Static int8 in Q/DQ form, with ranges from the calibration part. The scheme comes from the target.

    A range of activations that is too wide rounds coarsely, one too narrow clips. Weights are rounded to the nearest, or so
    that the layer's output changes least. Dot-product instructions take four 8-bit values at a time, so convolutions of
    fewer input channels gain nothing from int8.

    Simulated quantization rounds to the nearest: training makes up for what rounding, bias_correction, float_noise and
    float_share do otherwise.
    """

    kind: Literal["quantize"] = "quantize"
    simulate: bool = Field(
        default=False,
        description="leave a fake-quantized graph that a later distill stage trains; it is rounded at export",
    )
    calibrators: tuple[Calibrator, ...] = Field(
        default=("min-max", "percentile", "mse", "entropy"),
        min_length=1,
        description="ways to choose ranges; all are tried, the validation part picks",
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="share of values inside the range, in percent, for percentile"
    )
    rounding: tuple[Rounding, ...] = Field(
        default=("nearest", "least-output-error"),
        min_length=1,
        description="ways to round weights; all are tried with every calibrator",
    )
    bias_correction: bool = Field(
        default=True, description="take the mean error of the rounded weights out of the biases"
    )
    equalization: Literal["auto", "try", "off"] = Field(
        default="auto",
        description="also try the graph with neighbouring layers equalized; auto: where a weight has one scale a tensor",
    )
    weight_range: Literal["auto", "full", "seven-bit"] = Field(
        default="auto",
        description="seven-bit keeps weights in -64..64, where x86 without VNNI cannot overflow; "
        "auto: where the target is this machine and has none",
    )
    keep_float: tuple[str, ...] = Field(
        default=(), description="ONNX nodes or operators that stay in float; simulated: modules or operators"
    )
    accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        description="keep as few layers in float as hold the metric within this of the float network, on validation",
    )
    least_channels: int = Field(default=4, ge=1, description="convolutions of fewer input channels stay in float")
    float_noise: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="an activation that makes a larger share of the noise stays in float",
    )
    float_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="but only where the layers around it have at most this share of MACs and weights",
    )

    def equalizes(self, scheme: QuantizationScheme) -> bool:
        """Return whether equalized weights are tried in a scheme."""
        return self.equalization == "try" or (self.equalization == "auto" and not scheme.per_channel)

    @model_validator(mode="after")
    def _trained_or_searched(self) -> Self:
        if self.simulate and self.accuracy_drop is not None:
            raise ValueError("accuracy_drop is held by a search, simulate by training: leave one of them out")
        return self
