"""Settings of weight-only quantization."""

from typing import Literal

from pydantic import Field

from edgekd.recipe import StageSettings
from edgekd.stages.quantize.settings import Rounding

Operator = Literal["Gemm", "MatMul", "Conv", "GRU", "LSTM"]


class WeightOnlySettings(StageSettings):
    """Weights in 8 or 4 bits, a step for each block of inputs; activations keep their ranges, so none are calibrated.

    The file holds DequantizeLinear in front of the layers, which is plain ONNX; 4 bits and blocks need opset 21. ONNX
    Runtime runs Gemm and MatMul on the packed weights, and makes floats of the others' at every call.
    """

    kind: Literal["quantize-weights"] = "quantize-weights"
    bits: Literal[8, 4] = Field(default=8, description="of a weight")
    block: Literal[0, 16, 32, 64, 128, 256] = Field(
        default=32, description="inputs that share a step, all where there are fewer; 0: all of an output"
    )
    symmetric: bool = Field(default=True, description="no zero points; false: ranges need not lie around 0")
    rounding: tuple[Rounding, ...] = Field(
        default=("nearest", "least-output-error"),
        min_length=1,
        description="ways to round; all are tried, the validation part picks",
    )
    operators: tuple[Operator, ...] = Field(
        default=("Gemm", "MatMul"),
        min_length=1,
        description="whose weights; a convolution has one step an output, GRU and LSTM round to the nearest",
    )
    keep_float: tuple[str, ...] = Field(
        default=(), description="nodes of the file, modules or operators that stay in float"
    )
