"""Export for OpenVINO, which reads ONNX: one file."""

from edgekd.stages.export.exporter import Exporter
from edgekd.stages.export.onnxruntime import write

EXPORTER = Exporter(
    "one ONNX file for OpenVINO",
    write,
    {"openvino": ">=2026.4", "numpy": ">=1.24", "python": ">=3.10"},
    "run.pyz runs the file on the CPU; for a GPU or an NPU it is compiled for that device",
)
