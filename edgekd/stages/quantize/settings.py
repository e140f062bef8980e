"""Settings of static quantization."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from edgekd.models.precision import ALONE, Precision
from edgekd.models.weight_rounding import GROUP, Activations, Scales, Weights
from edgekd.recipe import StageSettings
from edgekd.target import QuantizationScheme

Calibrator = Literal["min-max", "percentile", "entropy", "mse"]
Rounding = Literal["nearest", "least-output-error"]


_ROUNDING_ALONE = ("rounding", "bias_correction", "equalization", "float_noise", "float_share")
_OUTLIER = 8.0
_RANGES = ("calibrators", "percentile")


class QuantizeSettings(StageSettings):
    """Static int8 in Q/DQ form, with ranges from the calibration part. The scheme comes from the target.

    A range of activations that is too wide rounds coarsely, one too narrow clips. Weights are rounded to the nearest, or so
    that the layer's output changes least. Dot-product instructions take four 8-bit values at a time, so convolutions of
    fewer input channels gain nothing from int8.

    Simulated quantization rounds to the nearest: training makes up for what rounding, bias_correction, equalization,
    float_noise and float_share do otherwise, and they are refused beside it. It alone has weights of 4 bits and ternary
    ones, and activations in float. Ternary weights are those of linear layers; all else stays in float.
    """

    kind: Literal["quantize"] = "quantize"
    simulate: bool = Field(
        default=False,
        description="leave a fake-quantized graph that a later distill stage trains; it is rounded at export",
    )
    weights: Weights | None = Field(
        default=None, description="simulated: what weights are rounded to; not set: as the target's scheme has them"
    )
    activations: Activations | None = Field(
        default=None,
        description="simulated: float rounds weights alone; not set: int8, and float where weights are ternary or in blocks",
    )
    block: int | None = Field(
        default=None,
        ge=0,
        description="simulated: how many weights of an output channel share a scale, 0 all of them; not set: 0, ternary 128",
    )
    scales: Scales | None = Field(
        default=None,
        description="simulated: scales of weights from the greatest one, or learned beside them; not set: absmax",
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
        description="also try the graph with neighbouring layers equalized; auto: where a weight has one scale a tensor, "
        "or one channel far exceeds the others",
    )
    weight_range: Literal["auto", "full", "seven-bit"] = Field(
        default="auto",
        description="seven-bit keeps weights in -64..64, where x86 without VNNI cannot overflow; "
        "auto: where the target is this machine and has none",
    )
    keep_float: tuple[str, ...] = Field(
        default=(), description="nodes of the file, modules or operators that stay in float"
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

    def equalizes(self, scheme: QuantizationScheme, spread: float) -> bool:
        """Return whether equalized weights are tried in a scheme; `spread` is how far one channel exceeds the median one."""
        helps = not scheme.per_channel or spread > _OUTLIER
        return self.equalization == "try" or (self.equalization == "auto" and helps)

    @model_validator(mode="after")
    def _trained_or_searched(self) -> Self:
        if self.simulate and self.accuracy_drop is not None:
            raise ValueError("accuracy_drop is held by a search, simulate by training: leave one of them out")
        only = [name for name in ("weights", "activations", "block", "scales") if getattr(self, name) is not None]
        if only and not self.simulate:
            raise ValueError(
                f"{', '.join(only)}: what is trained afterwards has these; set simulate = true, then distill"
            )
        if self.rounded_activations == "float":
            return self
        if self.activations == "int8" and self.weights == "ternary":
            raise ValueError('ternary weights go with activations in float; set activations = "float"')
        if self.activations == "int8" and self.block:
            raise ValueError(
                "block: integers cannot be added up over groups with scales of their own; set block = 0, or "
                'activations = "float"'
            )
        return self

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        if not self.simulate:
            return self
        idle = self._changed(_ROUNDING_ALONE)
        if idle:
            raise ValueError(
                f"{', '.join(idle)}: without effect where training makes up for the rounding; leave out what is named, or simulate"
            )
        idle = self._changed(_RANGES)
        if idle and self.rounded_activations == "float":
            raise ValueError(
                f"{', '.join(idle)}: choose ranges of activations, and these stay in float; leave out what is named, or set "
                'activations = "int8"'
            )
        return self

    def _changed(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    @model_validator(mode="after")
    def _learned_or_ternary(self) -> Self:
        if self.weights == "ternary" and self.scales == "learned":
            raise ValueError(
                "scales: learned scales of ternary weights drift until nearly all weights, or none, are zero; leave scales out"
            )
        return self

    def simulated(self) -> Self:
        """Return the same as what a training starts with: without what only a rounding afterwards has."""
        kept = self.model_dump(exclude=set(_ROUNDING_ALONE))
        return self.model_validate({**kept, "simulate": True})

    @property
    def rounded_activations(self) -> Activations:
        """Return what activations are rounded to where that is simulated."""
        return self.activations or ("float" if self.weights == "ternary" or self.block else "int8")

    @property
    def group(self) -> int:
        """Return how many weights of an output channel share a scale, 0 for all."""
        return self.block if self.block is not None else GROUP if self.weights == "ternary" else 0

    @property
    def precision(self) -> Precision:
        """Return what the stage leaves."""
        return ALONE[self.weights or "int8"] if self.rounded_activations == "float" else "int8"
