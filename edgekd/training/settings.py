"""How to train: optimizer, learning rate, precision, and when to stop."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

LEARNING_RATES = {"sgd": 0.1, "adamw": 2e-3}


class TrainingSettings(BaseModel):
    """How to train. `precision` auto takes bfloat16 autocast where the processor computes in it, else float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=4, ge=1, le=10_000, description="passes over the train part")
    batch_size: int = Field(default=128, ge=2, description="samples a step; of few samples a quarter is taken")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="SGD with Nesterov momentum, or AdamW")
    learning_rate: float | None = Field(
        default=None, gt=0, description="the highest one; not set: 0.1 for sgd, 0.002 for adamw"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=5e-4, ge=0, description="of the optimizer")
    decay: Literal["one-cycle", "cosine", "constant"] = Field(
        default="one-cycle", description="the learning rate rises, then falls to zero; or falls; or stays"
    )
    warmup: float = Field(default=0.2, gt=0, lt=1, description="share of the steps in which the learning rate rises")
    clip_gradient: float | None = Field(default=5.0, gt=0, description="longest gradient; a longer one is scaled down")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the processor computes in it"
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="keep an exponential moving average of the weights, with this decay a step",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="stop after so many epochs without a better validation score; the best one is kept",
    )
    mixup: float = Field(default=0.0, ge=0, le=10, description="alpha of mixup; 0: none")
    adapt: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="of a fake-quantized graph: share of the steps in which batch statistics and ranges follow, before they are held",
    )
    keep_sparsity: bool = Field(
        default=True, description="weights that are zero among others that are not (a pruning mask) stay zero"
    )

    @property
    def highest_rate(self) -> float:
        """Return the highest learning rate."""
        return self.learning_rate or LEARNING_RATES[self.optimizer]


def computes_bfloat16(device: str) -> bool:
    """Return whether the device has fast bfloat16 arithmetic."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def chosen_device(device: str) -> str:
    """Return `cpu` or `cuda` for `auto`, `cpu` or `cuda`."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def chosen_precision(settings: TrainingSettings, device: str) -> str:
    """Return `float32` or `bfloat16`."""
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if computes_bfloat16(chosen_device(device)) else "float32"


def batch_size(settings: TrainingSettings, samples: int) -> int:
    """Return the batch size asked for; of few samples a quarter, so that an epoch has steps enough."""
    return min(settings.batch_size, max(2, samples // 4))
