"""Export: a model state becomes the file that goes to the device, one file here a runtime."""

from edgekd.stages.export import onnxruntime, openvino, tensorrt
from edgekd.stages.export.exporter import Exporter
from edgekd.stages.export.onnx_writer import write_onnx

EXPORTERS: dict[str, Exporter] = {
    "onnxruntime": onnxruntime.EXPORTER,
    "openvino": openvino.EXPORTER,
    "tensorrt": tensorrt.EXPORTER,
}

__all__ = ["EXPORTERS", "Exporter", "write_onnx"]
