"""The float network of a state as an ONNX file, in an opset that has what a stage writes."""

import shutil
from pathlib import Path

import onnx
import onnx.version_converter

from edgekd.context import Context
from edgekd.errors import StageError
from edgekd.stages.export.onnx_writer import OPSET, write_onnx
from edgekd.stages.export.prepared_writer import write_prepared
from edgekd.state import ModelState, OnnxForm, PreparedForm


def write_float_file(state: ModelState, context: Context, path: Path, least_opset: int = 0) -> None:
    """Write a state as ONNX; a file in an opset below `least_opset` is converted to it.

    A fake-quantized graph is written with its integers.

    Raises:
        StageError: the network cannot be written, or the file not be converted.
    """
    opset = max(context.runtime.opset or OPSET, least_opset)
    if isinstance(state.form, PreparedForm):
        write_prepared(state.form.module, state.signature, path, opset=opset)
    elif isinstance(state.form, OnnxForm):
        shutil.copyfile(state.form.path, path)
    else:
        write_onnx(state.form.module, state.signature, path, opset=opset)
    model = onnx.load(str(path))
    found = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), least_opset)
    if found < least_opset:
        context.log(f"the graph is converted from opset {found} to {least_opset}")
        try:
            onnx.save(onnx.version_converter.convert_version(model, least_opset), str(path))
        except Exception as error:  # its errors have no common base
            raise StageError(f"the graph cannot be converted from opset {found} to {least_opset}: {error}") from error
