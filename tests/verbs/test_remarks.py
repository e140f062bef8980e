from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgekd.figures import Figure
from edgekd.metrics import METRICS
from edgekd.models.precision import Precision
from edgekd.models.signature import Signature, TensorSpec
from edgekd.pipeline import Step
from edgekd.state import ModelState, OnnxForm
from edgekd.verbs.remarks import float_remarks, late_remarks, parity_remarks, slower_remarks, worse_remarks

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),))
CLEAR = {"ratio": 0.8, "low": 0.75, "high": 0.85, "verdict": "slower"}


def step(path: Path, name: str, precision: Precision, **notes: Any) -> Step:
    nodes = [
        helper.make_node("GRU", ["x", "w", "r"], ["y"], "memory"),
        helper.make_node("Gemm", ["y", "b"], ["z"], "head"),
        helper.make_node("Gemm", ["y", "b"], ["q"], "tail"),
    ]
    value = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [given], [value])), str(path))
    return Step(name, "key", ModelState(SIGNATURE, OnnxForm(path, precision), (name,), notes), path)


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int8-weights", "int4-weights", "fp16", "int8+fp16"])
def test_a_file_slower_than_its_float_one_draws_a_remark_with_a_next_step(tmp_path: Path, precision: Precision) -> None:
    chain = [step(tmp_path / "a.onnx", "baseline", "fp32"), step(tmp_path / "b.onnx", "quantize", precision)]
    (said,) = slower_remarks(chain, {"against_float": {"speedup": CLEAR}}, Path("run"), own=True)
    assert f"{precision} runs 1.25 times slower" in said and "1.18 to 1.33" in said
    assert any(word in said for word in ("try", "leave")) and "the target may differ" not in said
    (said,) = slower_remarks(chain, {"against_float": {"speedup": CLEAR}}, Path("run"), own=False)
    assert said.endswith(
        "the target may differ: `python3 run.pyz profile` there tells"
    )  # advice would be about this CPU


@pytest.mark.parametrize(("cosine", "agreement", "count"), [(0.99, 0.98, 0), (0.22, 0.17, 1), (0.5, None, 1)])
def test_outputs_that_have_nothing_to_do_with_the_network_draw_one(
    cosine: float, agreement: float | None, count: int
) -> None:
    said = parity_remarks({"against": "baseline", "fake_quantized": False, "cosine": cosine, "agreement": agreement})
    assert len(said) == count and all(f"{cosine:.3f}" in one for one in said)
    assert all(("17%" in one) == (agreement is not None) for one in said)


@pytest.mark.parametrize(("trained", "agreement", "count"), [(True, 0.985, 1), (True, 0.99, 0), (False, 0.985, 0)])
def test_a_trained_file_decides_as_its_network(trained: bool, agreement: float, count: int) -> None:
    checked = {"against": "distill", "fake_quantized": trained, "cosine": 0.999, "agreement": agreement, "samples": 512}
    assert sum("98.5% of 512" in one for one in parity_remarks(checked)) == count


@pytest.mark.parametrize(("score", "count"), [(88.0, 1), (89.5, 0), (95.0, 0)])
def test_a_distillation_that_made_things_worse_is_told(tmp_path: Path, score: float, count: int) -> None:
    chain = [step(tmp_path / "a.onnx", "prune", "fp32"), step(tmp_path / "b.onnx", "distill", "fp32")]
    before = Figure("%", 90.0, "measured", low=89.0, high=91.0)
    figures = {"prune": {"score": before}, "distill": {"score": Figure("%", score, "measured")}}
    said = worse_remarks(chain, figures, METRICS["accuracy"])
    assert len(said) == count and all("worse, by 2.00 %" in one and "learning_rate" in one for one in said)
    assert worse_remarks(chain[::-1], figures, METRICS["accuracy"]) == []  # a stage of another kind has its own words


@pytest.mark.parametrize(("low", "count"), [(0.368, 1), (0.345, 0)])
def test_a_cut_that_is_slower_in_the_report_than_asked_is_told(tmp_path: Path, low: float, count: int) -> None:
    cut = step(tmp_path / "a.onnx", "prune", "fp32", to_ms=0.35, latency_ms=0.343)
    figures = {"prune": {"latency_p50_ms": Figure("ms", 0.369, "measured", low=low, high=0.37)}}
    said = late_remarks([cut], figures, {})
    assert len(said) == count
    assert all("misses to_ms = 0.35: 0.369 ms" in one and "ask for 0.332" in one for one in said)
    assert late_remarks([step(tmp_path / "b.onnx", "prune", "fp32", macs_share=0.5)], figures, {}) == []


@pytest.mark.parametrize(("high", "count"), [(1.9, 1), (2.1, 0)])
def test_a_cut_to_a_share_of_the_latency_is_judged_against_its_parent(tmp_path: Path, high: float, count: int) -> None:
    cut = step(tmp_path / "a.onnx", "prune", "fp32", to_latency=0.5, latency_share=0.49)
    speedup = {"ratio": 1.8, "low": 1.7, "high": high}
    figures = {"prune": {"latency_p50_ms": Figure.absent("ms", "not here")}}
    said = late_remarks([cut], figures, {"prune": {"against_parent": {"speedup": speedup}}})
    assert len(said) == count and all("misses to_latency = 0.5: 0.556 of the latency" in one for one in said)
    assert late_remarks([cut], figures, {}) == []


@pytest.mark.parametrize("verdict", ["faster", "not distinguishable", "the same file"])
def test_what_is_not_clearly_slower_draws_none(tmp_path: Path, verdict: str) -> None:
    chain = [step(tmp_path / "a.onnx", "quantize", "int8")]
    assert slower_remarks(chain, {"against_float": {"speedup": {**CLEAR, "verdict": verdict}}}, Path(), own=True) == []
    assert slower_remarks(chain, {}, Path(), own=True) == []


def test_what_stays_in_float_is_told_by_operator(tmp_path: Path) -> None:
    kept = step(
        tmp_path / "a.onnx",
        "quantize-dynamic",
        "int8-dynamic",
        kept_float=dict.fromkeys(("memory", "head", "tail"), ""),
    )
    (said,) = float_remarks([kept])
    assert said.startswith("quantize-dynamic: what stays in float: 2 Gemm, GRU; a stage quantize-weights with")
    assert float_remarks([step(tmp_path / "b.onnx", "quantize", "int8", kept_float={})]) == []
    half = step(tmp_path / "c.onnx", "half", "fp16", kept_float={"head": "weights out of range"})
    assert float_remarks([half]) == ["half: what stays in float32: Gemm (weights out of range)"]
