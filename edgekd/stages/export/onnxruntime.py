"""Export for ONNX Runtime: one ONNX file, with the preprocessing inside when asked."""

from pathlib import Path

import onnx

from edgekd.errors import StageError
from edgekd.models.onnx_graph import preprocess_inside
from edgekd.models.signature import Signature
from edgekd.recipe import ExportSettings
from edgekd.stages.export.exporter import Exporter

DOMAINS = {"", "ai.onnx", "com.microsoft"}


def write(source: Path, signature: Signature, settings: ExportSettings, folder: Path) -> Path:
    """Write `model.onnx` into the folder.

    Raises:
        StageError: the graph holds something that exists only for training.
    """
    model = onnx.load(str(source))
    outputs = [value.name for value in model.graph.output]
    foreign = sorted({node.domain for node in model.graph.node} - DOMAINS)
    if foreign or outputs != [spec.name for spec in signature.outputs]:
        raise StageError(f"the graph holds what a device must not get: domains {foreign}, outputs {outputs}")
    if settings.input == "uint8":
        model = preprocess_inside(model, signature)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.checker.check_model(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


EXPORTER = Exporter(
    "one ONNX file for ONNX Runtime", write, {"onnxruntime": ">=1.20", "numpy": ">=1.24", "python": ">=3.10"}
)
