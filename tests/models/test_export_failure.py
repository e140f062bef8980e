from pathlib import Path

import pytest
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.export_failure import explain_export
from edgekd.models.exported_graph import export_graph
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.export.onnx_writer import write_onnx

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", shape=("batch", 4)),), outputs=(TensorSpec(name="y", shape=("batch", 4)),)
)


class Branching(nn.Module):
    """Goes one way or the other, by what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


def test_control_flow_that_depends_on_data_is_named_with_its_fix(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for refused in (
        lambda: write_onnx(Branching(), SIGNATURE, tmp_path / "x.onnx"),
        lambda: export_graph(Branching(), SIGNATURE),
    ):
        with pytest.raises(InputError, match="forward decides by the values of a tensor") as caught:
            refused()
        assert "torch.where" in str(caught.value) and "guard" not in str(caught.value).lower()
    assert "symbolic_shapes" not in capfd.readouterr().err


def test_all_else_keeps_the_first_lines_of_the_cause() -> None:
    outer = RuntimeError("export failed")
    outer.__cause__ = ValueError("sizes 3 and 4\n\n do not fit\nmore")
    assert explain_export(outer) == "sizes 3 and 4 do not fit"
    assert explain_export(KeyError()) == "KeyError"
