"""Write every int8 configuration of ONNX Runtime's own quantizer; a plain script, run in its own environment.

`python write_onnxruntime.py FLOAT.onnx CALIBRATION.npy NETWORK.pt2 FOLDER` writes one file a configuration into the folder:
calibration (min-max, entropy, percentile 99.9, 99.99, 99.999) x weights per tensor or per channel x unsigned or signed
activations, after `quant_pre_process`, as the documentation of ONNX Runtime advises; and `dynamic.onnx`, weights of
matrix products and recurrent layers in int8, activations rounded as they come.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    create_calibrator,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.calibrate import save_tensors_data

CALIBRATIONS = {
    "min-max": (CalibrationMethod.MinMax, {}),
    "entropy": (CalibrationMethod.Entropy, {}),
    "percentile-99.9": (CalibrationMethod.Percentile, {"percentile": 99.9}),
    "percentile-99.99": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "percentile-99.999": (CalibrationMethod.Percentile, {"percentile": 99.999}),
}
ACTIVATIONS = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
BATCH = 10
BATCHES_AT_ONCE = 3  # the histogram calibrators keep all activations of what they are given at once


class Reader(CalibrationDataReader):
    """Hands out batches of the calibration samples."""

    def __init__(self, name: str, samples: np.ndarray) -> None:
        self.batches = iter([{name: samples[i : i + BATCH]} for i in range(0, len(samples), BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None."""
        return next(self.batches, None)


def main(source: Path, calibration: Path, _network: Path, folder: Path) -> None:
    """Calibrate five times, write twenty files."""
    samples = np.load(calibration)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # the symbolic one needs sympy
    session = onnxruntime.InferenceSession(str(prepared), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for title, (method, options) in CALIBRATIONS.items():
        calibrator = create_calibrator(
            str(prepared), None, str(folder / "watched.onnx"), calibrate_method=method, extra_options=options
        )
        step = BATCH * BATCHES_AT_ONCE
        for start in range(0, len(samples), step):
            calibrator.collect_data(Reader(name, samples[start : start + step]))
        ranges = folder / f"{title}.json"
        save_tensors_data(calibrator.compute_data(), ranges)
        del calibrator
        for per_channel in (False, True):
            for kind, activation in ACTIVATIONS.items():
                quantize_static(
                    str(prepared),
                    str(folder / f"{title}_{'per-channel' if per_channel else 'per-tensor'}_{kind}.onnx"),
                    quant_format=QuantFormat.QDQ,
                    per_channel=per_channel,
                    activation_type=activation,
                    weight_type=QuantType.QInt8,
                    calibrate_method=method,
                    calibration_cache_path=str(ranges),
                )
        print(f"onnxruntime {onnxruntime.__version__}: {title} written", flush=True)
    model = onnx.load(str(source))
    del model.graph.value_info[:]  # the dynamic quantizer transposes weights and trips over their noted shapes
    onnx.save(model, str(prepared))
    quantize_dynamic(str(prepared), str(folder / "dynamic.onnx"), per_channel=True, weight_type=QuantType.QInt8)
    for path in (prepared, folder / "watched.onnx"):
        path.unlink()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
