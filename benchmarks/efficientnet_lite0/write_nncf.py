"""Write NNCF's int8 file of an ONNX model; a plain script, run in its own environment.

`python write_nncf.py FLOAT.onnx CALIBRATION.npy FOLDER` writes `default.onnx`: `nncf.quantize` as it comes, which takes
the first 300 calibration crops, and `all-crops.onnx`: the same with all of them.
"""

import sys
from pathlib import Path

import nncf
import numpy as np
import onnx


def main(source: Path, calibration: Path, folder: Path) -> None:
    """Write both files."""
    crops = np.load(calibration)
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(str(source))
    name = model.graph.input[0].name
    data = nncf.Dataset([{name: crop[None]} for crop in crops])
    for title, options in {"default": {}, "all-crops": {"subset_size": len(crops)}}.items():
        onnx.save(nncf.quantize(model, data, **options), str(folder / f"{title}.onnx"))
        print(f"nncf {nncf.__version__}: {title} written", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
