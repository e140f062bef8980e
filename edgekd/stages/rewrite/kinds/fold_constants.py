"""What an ONNX graph computes from constants alone is computed once, now."""

from collections import Counter
from typing import Any, ClassVar, Literal

import onnx

from edgekd.context import Context
from edgekd.device.errors import DeviceError
from edgekd.device.runtimes.onnxruntime import write_optimized
from edgekd.errors import StageError
from edgekd.models.onnx_graph import name_nodes
from edgekd.stages.export.onnx_writer import name_pooling, tidy
from edgekd.stages.rewrite.rewrite import Change, Rewrite, onnx_path
from edgekd.state import ModelState, OnnxForm


class FoldConstants(Rewrite):
    """Constant sub-graphs, shape arithmetic and nodes without effect go; convolutions take up norms and scales behind them.

    Done by ONNX Runtime's basic optimizations, whose result has to be standard ONNX.
    """

    title: ClassVar[str] = "Constant folding"
    source: ClassVar[str] = "ONNX Runtime, basic graph optimizations"
    evidence: ClassVar[str] = "D"
    applies: ClassVar[str] = "ONNX files, most of all those of older exporters; exact"
    works_on: ClassVar[Literal["torch", "onnx"]] = "onnx"

    kind: Literal["fold-constants"] = "fold-constants"

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Write the folded file.

        Raises:
            StageError: ONNX Runtime cannot read the file, or leaves operators of its own.
        """
        source, path = onnx_path(state), context.workdir / "model.onnx"
        try:
            write_optimized(source, path)
        except DeviceError as error:
            raise StageError(f"fold-constants: {error}") from error
        folded = onnx.load(str(path))
        foreign = sorted({node.domain for node in folded.graph.node} - {"", "ai.onnx"})
        if foreign:
            raise StageError(
                f"fold-constants: ONNX Runtime left operators of {', '.join(foreign)}, which are not ONNX's own"
            )
        before, after = (_operators(model) for model in (onnx.load(str(source)), folded))
        if before == after:
            return Change("nothing in the graph is constant or without effect")
        name_pooling(folded)
        tidy(folded)
        name_nodes(folded)
        del folded.graph.value_info[:]
        kept = [entry for entry in folded.opset_import if entry.domain in ("", "ai.onnx")]
        del folded.opset_import[:]
        folded.opset_import.extend(kept)
        onnx.save(folded, str(path))
        gone = ", ".join(f"{count} {name}" for name, count in sorted((before - after).items()))
        return Change(f"{before.total()} nodes became {after.total()}: {gone} went", OnnxForm(path))


def _operators(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)
