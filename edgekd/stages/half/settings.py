"""Settings of half precision."""

from typing import Literal

from pydantic import Field

from edgekd.recipe import StageSettings


class HalfSettings(StageSettings):
    """Float16 for all that is float32, also behind quantize: then what is not int8 becomes float16.

    Inputs and outputs stay float32. So does a node at which a value of the calibration part comes near the largest that
    float16 has, and one whose operator has no float16 in ONNX.
    """

    kind: Literal["half"] = "half"
    keep_float: tuple[str, ...] = Field(
        default=(), description="nodes of the file, modules or operators that stay in float32"
    )
    storage_only: bool = Field(
        default=False,
        description="also for a runtime without float16, which casts to float32: half the bytes, no faster",
    )
