"""Write NNCF's int8 file of an ONNX model; a plain script, run in its own environment.

`python write_nncf.py FLOAT.onnx CALIBRATION.npy NETWORK.pt2 FOLDER` writes `default.onnx`: `nncf.quantize` as it comes,
which takes the first 300 calibration samples, and with all of them: `all-samples.onnx`, `mixed.onnx` (asymmetric
activations), `slow-bias.onnx` (its exact bias correction) and `transformer.onnx` (its rules for transformers).
"""

import sys
from pathlib import Path

import nncf
import numpy as np
import onnx


def main(source: Path, calibration: Path, _network: Path, folder: Path) -> None:
    """Write all files."""
    samples = np.load(calibration)
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(str(source))
    name = model.graph.input[0].name
    data = nncf.Dataset([{name: sample[None]} for sample in samples])
    everything = {"subset_size": len(samples)}
    configurations = {
        "default": {},
        "all-samples": everything,
        "mixed": {**everything, "preset": nncf.QuantizationPreset.MIXED},
        "slow-bias": {**everything, "fast_bias_correction": False},
        "transformer": {**everything, "model_type": nncf.ModelType.TRANSFORMER},
    }
    for title, options in configurations.items():
        try:
            onnx.save(nncf.quantize(model, data, **options), str(folder / f"{title}.onnx"))
        except Exception as error:  # of many kinds: its bias corrections open parts of a graph in ONNX Runtime
            print(f"nncf {nncf.__version__}: {title} failed: {error}", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
