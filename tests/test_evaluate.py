import numpy as np
import pytest

from edgekd.data import Dataset, Part
from edgekd.device.runtimes.session import TensorInfo
from edgekd.errors import InputError
from edgekd.evaluate import judge_outputs, run_session
from edgekd.metrics import METRICS, Metric, agreement
from edgekd.models.signature import Signature, TensorSpec

RANDOM = np.random.default_rng(0)


def part(task: str, **other: object) -> Part:
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 2)),), task=task)  # type: ignore[arg-type]
    dataset = Dataset(inputs={"x": np.zeros((4, 2), np.float32)}, **other)  # type: ignore[arg-type]
    return Part(dataset, np.arange(4), signature)


def test_tokens_have_their_classes_last() -> None:
    logits, others = RANDOM.standard_normal((2, 4, 3, 3))
    targets = RANDOM.integers(-1, 3, (4, 3))
    counted = targets >= 0
    labelled = part("tokens", targets=targets)
    for name in ("token-accuracy", "accuracy"):
        wanted = 100 * (logits.argmax(-1) == targets)[counted].mean()
        assert judge_outputs({"output": logits}, None, labelled, METRICS[name]) == pytest.approx(wanted)
    found = judge_outputs({"output": logits}, {"output": others}, part("tokens"), METRICS["agreement"])
    assert found == pytest.approx(100 * (logits.argmax(-1) == others.argmax(-1)).mean())
    assert found != pytest.approx(agreement(logits, others))


def test_tokens_that_are_padding_do_not_count() -> None:
    logits, others = RANDOM.standard_normal((2, 4, 3, 5))
    mask = np.array([[1, 1, 0]] * 3 + [[1, 0, 0]], bool)
    padded = part("tokens", targets=RANDOM.integers(0, 5, (4, 3)), extras={"valid": mask})
    for name in ("token-accuracy", "agreement", "sqnr"):
        scores = {
            judge_outputs({"output": one}, {"output": others}, padded, METRICS[name])
            for one in (logits, np.where(mask[..., None], logits, 99.0))
        }
        assert len(scores) == 1
    with pytest.raises(InputError, match="no position counts"):
        nothing = part("tokens", extras={"valid": np.zeros((4, 3))})
        judge_outputs({"output": logits}, {"output": others}, nothing, METRICS["agreement"])


@pytest.mark.parametrize(
    ("outputs", "targets", "mask"),
    [
        ((4, 1, 3, 2), (4, 3, 2), (4, 3, 2)),
        ((4, 2, 3, 2), (4, 2, 3, 2), (4, 3, 2)),
        ((4, 6), (4, 6), (4, 6)),
        ((4, 6, 2), (4, 6, 2), (4, 6)),
    ],
)
def test_holes_of_dense_maps_and_series_do_not_count(
    outputs: tuple[int, ...], targets: tuple[int, ...], mask: tuple[int, ...]
) -> None:
    values, counted = RANDOM.standard_normal(outputs), RANDOM.random(mask) < 0.5
    axes = counted[:, None] if len(outputs) == 4 else counted[..., None] if len(outputs) > len(mask) else counted
    wanted = np.where(axes, values + 2.0, 1e6).reshape(targets)
    holes = part("regression", targets=wanted, extras={"valid": counted})
    assert judge_outputs({"output": values}, None, holes, METRICS["mse"]) == pytest.approx(4.0)
    assert judge_outputs({"output": values}, None, holes, METRICS["mae"]) == pytest.approx(2.0)


def test_a_mask_of_other_positions_changes_nothing() -> None:
    """A prompt's padding is not that of a value a sample."""
    values = RANDOM.standard_normal((4, 1))
    prompted = part("regression", targets=values + 3.0, extras={"attention_mask": np.array([[1, 0, 0]] * 4)})
    assert judge_outputs({"output": values}, None, prompted, METRICS["mse"]) == pytest.approx(9.0)


def test_ignored_pixels_do_not_count_with_a_mask_beside_them() -> None:
    logits = RANDOM.standard_normal((4, 3, 5, 5))
    masks = logits.argmax(1)
    mask = RANDOM.random((4, 5, 5)) < 0.5
    wrong = np.where(mask, masks, (masks + 1) % 3)
    padded = part("segmentation", targets=wrong, extras={"valid": mask})
    assert judge_outputs({"output": logits}, None, padded, METRICS["miou"]) == 100.0


def test_the_fidelity_of_a_detection_is_over_all_outputs() -> None:
    scores, boxes = np.ones((4, 7)), np.ones((4, 7, 4))
    given = {"scores": 1.1 * scores, "boxes": 1.01 * boxes}
    reference = {"scores": scores, "boxes": boxes}
    assert judge_outputs(given, reference, part("detection"), METRICS["sqnr"]) == pytest.approx(30.0)
    assert judge_outputs(given, reference, part("regression"), METRICS["sqnr"]) == pytest.approx(20.0)
    with pytest.raises(InputError, match="the outputs are scores, those of the reference scores, boxes"):
        judge_outputs({"scores": scores}, reference, part("detection"), METRICS["sqnr"])


def test_a_metric_of_ones_own_for_detection_gets_everything() -> None:
    def hits(outputs: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> float:
        assert list(outputs) == ["scores", "boxes"] and sorted(arrays) == ["boxes", "targets"]
        return float(arrays["boxes"].sum())

    own = Metric("my:hits", "", True, hits)  # type: ignore[arg-type]
    given = {"scores": np.ones((4, 7)), "boxes": np.ones((4, 7, 4))}
    truth = part("detection", targets=np.zeros((4, 7)), extras={"boxes": np.ones((4, 2, 5))})
    assert judge_outputs(given, None, truth, own) == 40.0
    with pytest.raises(InputError, match=r"my:hits fails on outputs \{'scores': \(4, 7\), .* and targets \{\}"):
        judge_outputs(given, None, part("detection"), own)


def test_outputs_that_are_no_numbers_are_named() -> None:
    with pytest.raises(InputError, match="cosine gives nan on 4 samples; the outputs hold NaN"):
        outputs = np.full((4, 3), np.nan)
        judge_outputs({"output": outputs}, {"output": np.ones((4, 3))}, part("embedding"), METRICS["cosine"])


class Session:
    """Counts samples a call; its `runtime` is what the tests give."""

    inputs = (TensorInfo("x", ("batch", 2), "float32"),)

    def __init__(self, runtime: str) -> None:
        self.runtime, self.calls = runtime, []

    def describe(self) -> dict[str, str]:
        return {"runtime": self.runtime}

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls.append(len(feeds["x"]))
        return {"y": feeds["x"]}


@pytest.mark.parametrize(("runtime", "calls"), [("onnxruntime", [4]), ("openvino", [1, 1, 1, 1])])
def test_openvino_which_errs_in_batches_gets_a_sample_a_call(runtime: str, calls: list[int]) -> None:
    session = Session(runtime)
    assert run_session(session, part("classification"))["y"].shape == (4, 2)  # type: ignore[arg-type]
    assert session.calls == calls
