from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekd.context import Context
from edgekd.device.runtimes import node_times
from edgekd.errors import InputError, ToolMissing
from edgekd.evaluate import run_onnx
from edgekd.metrics import signal_to_noise
from edgekd.request import Request, prepare
from edgekd.stages.quantize import STAGE, QuantizeSettings
from edgekd.stages.quantize.executors import openvino
from edgekd.state import ModelState, OnnxForm

EXTRA = 'pip install "edgekd[openvino]" runs this with NNCF and OpenVINO'


@pytest.fixture
def prepared(example: Path) -> tuple[ModelState, Context]:
    made = prepare(Request(example / "model.pt", ("generic-x86",), runtime="openvino", threads=1))
    few = replace(made.contexts[0].parts, calibration=made.contexts[0].parts.calibration.take(32))
    return made.opened.state, replace(made.contexts[0], parts=few)


def test_a_missing_extra_is_said_before_any_work(
    prepared: tuple[ModelState, Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match=r'nncf and openvino not installed: pip install "edgekd\[openvino\]"'):
        STAGE.check(QuantizeSettings(), *prepared)


def test_nncf_writes_the_file_and_openvino_judges_it(
    prepared: tuple[ModelState, Context], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf", reason=EXTRA)
    state, context = prepared
    settings = QuantizeSettings(calibrators=("mse", "entropy"), keep_float=("Gemm",), float_noise=1)
    after = STAGE.run(state, settings, replace(context, workdir=tmp_path))
    assert isinstance(after.form, OnnxForm) and list(after.notes["validation"]) == ["mse"]
    model = onnx.load(str(after.form.path))
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    rounded = [node.op_type for node in model.graph.node if makers.get(node.input[0]) == "DequantizeLinear"]
    assert rounded.count("Conv") > 3 and "Gemm" not in rounded
    part = context.parts.evaluation
    found, same, wanted = (
        run_onnx(path, part, 1, runtime=runtime)["output"]
        for path, runtime in (
            (after.form.path, "openvino"),
            (after.form.path, "onnxruntime"),
            (tmp_path / "float.onnx", "openvino"),
        )
    )
    assert signal_to_noise(found, wanted) > 15 and signal_to_noise(found, same) > 25  # in dB
    ran = {one.name: one for one in node_times("openvino", after.form.path, part.take(1).inputs(), 1)}
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name in ran]
    assert sum(ran[name].dtype in ("int8", "uint8") for name in convolutions) > 3
    assert all(ran[name].operator == "Conv" and ran[name].time_us > 0 for name in convolutions)
    assert capsys.readouterr().out == ""


def test_nncf_returns_layers_until_the_drop_holds(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason=EXTRA)
    state, context = prepared
    settings = QuantizeSettings(calibrators=("min-max",), accuracy_drop=0.0, float_noise=1)
    after = STAGE.run(state, settings, replace(context, workdir=tmp_path))
    held = after.notes["accuracy_drop"]
    assert held["most"] == 0 and np.isfinite(held["reached"])
    assert set(held["layers_in_float"]) <= set(after.notes["kept_float"])


def test_a_calibrator_that_nncf_has_not_is_refused(prepared: tuple[ModelState, Context], tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason=EXTRA)
    state, context = prepared
    with pytest.raises(InputError, match="NNCF has min-max, percentile, mse, not entropy"):
        STAGE.run(state, QuantizeSettings(calibrators=("entropy",)), replace(context, workdir=tmp_path))
