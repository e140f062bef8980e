"""Export for TensorRT: one ONNX file that its parser takes. The engine is built on the device: it does not travel."""

from pathlib import Path

import onnx

from edgekd.errors import StageError
from edgekd.models.signature import Signature
from edgekd.models.tensorrt_form import faults
from edgekd.recipe import ExportSettings
from edgekd.stages.export import onnxruntime
from edgekd.stages.export.exporter import Exporter

_BUILD = "trtexec --onnx=model.onnx --saveEngine=model.engine --stronglyTyped (TensorRT 11: without --stronglyTyped)"


def write(source: Path, signature: Signature, settings: ExportSettings, folder: Path) -> Path:
    """Write `model.onnx` into the folder.

    Raises:
        StageError: the graph holds something that exists only for training, or that TensorRT's parser refuses.
    """
    refused = [str(fault) for fault in faults(onnx.load(str(source))) if fault.effect == "refused"]
    if refused:
        raise StageError(f"TensorRT's parser refuses this graph: {'; '.join(refused[:3])}")
    return onnxruntime.write(source, signature, settings, folder)


EXPORTER = Exporter(
    "one ONNX file in TensorRT's form",
    write,
    onnxruntime.EXPORTER.requirements,
    f"the engine is built there: {_BUILD}; run.pyz checks the ONNX file in ONNX Runtime, it does not run the engine",
)
