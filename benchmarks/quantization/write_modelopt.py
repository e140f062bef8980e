"""Write the int8 files of NVIDIA Model Optimizer's ONNX quantizer; a plain script, run in its own environment.

`python write_modelopt.py FLOAT.onnx CALIBRATION.npy NETWORK.pt2 FOLDER` writes `max.onnx` and `entropy.onnx`: its two
calibrations, with integer weights in the file (`dq_only`) and floats as high precision.
"""

import sys
from pathlib import Path

import modelopt
import numpy as np
import onnx
from modelopt.onnx.quantization import quantize


def main(source: Path, calibration: Path, _network: Path, folder: Path) -> None:
    """Write both files."""
    samples = np.load(calibration)
    folder.mkdir(parents=True, exist_ok=True)
    name = onnx.load(str(source)).graph.input[0].name
    for method in ("max", "entropy"):
        quantize(
            str(source),
            quantize_mode="int8",
            calibration_data={name: samples},
            calibration_method=method,
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            dq_only=True,
            output_path=str(folder / f"{method}.onnx"),
        )
        print(f"modelopt {modelopt.__version__}: {method} written", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
