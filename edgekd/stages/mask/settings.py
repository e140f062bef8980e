"""Settings of masks."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from edgekd.recipe import StageSettings
from edgekd.training.settings import TrainingSettings

UNSTRUCTURED = "unstructured"


class MaskSettings(TrainingSettings, StageSettings):
    """Set the least weights of convolutions, linear and recurrent layers to zero; later stages keep them there.

    With epochs, the share of zeros rises during a training, on the labels, or towards the uncompressed network where there
    are none: s (1 - (1 - t)³) at the time t of the ramp. Zeros alone make nothing faster on a runtime that multiplies them too.
    """

    kind: Literal["mask"] = "mask"
    sparsity: float | None = Field(
        default=None, gt=0, lt=1, description="share of zeros among the masked weights; a pattern N:M gives it itself"
    )
    pattern: str = Field(
        default=UNSTRUCTURED,
        description="unstructured, or N:M: of M consecutive inputs of a weight N stay, as in 2:4",
    )
    scope: Literal["global", "local"] = Field(
        default="global", description="of unstructured: all layers compete, or each has the same share of zeros"
    )
    importance: Literal["magnitude", "lamp"] = Field(
        default="magnitude",
        description="of unstructured: the weight's size, or that against all larger ones of its layer (LAMP)",
    )
    keep: tuple[str, ...] = Field(default=(), description="modules that are left dense; `edgekd inspect` lists them")
    epochs: int = Field(
        default=0, ge=0, le=10_000, description="passes over the train part; 0: all at once, without training"
    )
    ramp: float = Field(
        default=0.7, gt=0, le=1, description="share of the training in which the zeros grow in number; then it recovers"
    )

    @field_validator("pattern")
    @classmethod
    def _one_of_the_patterns(cls, value: str) -> str:
        found = re.fullmatch(r"(\d{1,3}):(\d{1,3})", value)
        if value != UNSTRUCTURED and (found is None or not 0 < int(found[1]) < int(found[2])):
            raise ValueError(f'"{UNSTRUCTURED}", or N:M with 0 < N < M as in "2:4", not "{value}"')
        return value

    @model_validator(mode="after")
    def _no_contradiction(self) -> "MaskSettings":
        if self.group is None and self.sparsity is None:
            raise ValueError("give sparsity, or pattern N:M")
        if self.group is not None and self.sparsity is not None and abs(self.sparsity - self.zeros) > 1e-9:
            raise ValueError(f"pattern {self.pattern} means sparsity {self.zeros:g}, not {self.sparsity:g}")
        if not self.keep_sparsity:
            raise ValueError("keep_sparsity = false would undo the mask")
        if self.patience is not None:
            raise ValueError("patience could choose an epoch before all zeros are there; leave it out")
        return self

    @property
    def group(self) -> tuple[int, int] | None:
        """Return N and M of a pattern N:M."""
        if self.pattern == UNSTRUCTURED:
            return None
        kept, size = self.pattern.split(":")
        return int(kept), int(size)

    @property
    def zeros(self) -> float:
        """Return the share of zeros at the end."""
        if self.group is not None:
            return 1 - self.group[0] / self.group[1]
        assert self.sparsity is not None
        return self.sparsity

    def zeros_at(self, progress: float) -> float:
        """Return the share of zeros when a part of the training is done.

        s (1 - (1 - t)³). Source: Zhu and Gupta, To prune, or not to prune, 2017, eq. 1; the time after the ramp is an edgekd
        variant.
        """
        return self.zeros * (1 - (1 - min(1.0, progress / self.ramp)) ** 3)
