from typing import get_args

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.metrics import (
    METRICS,
    accuracy,
    agreement,
    area_under_curve,
    choose_metric,
    cosine_similarity,
    decisions,
    drop_interval,
    mean_absolute_error,
    mean_iou,
    mean_squared_error,
    recall,
    signal_to_noise,
    token_accuracy,
)
from edgekd.models.signature import Task


def test_accuracy_counts_the_largest_logits() -> None:
    outputs = np.array([[1, 2], [3, 0], [0, 1], [5, 4]])
    assert accuracy(outputs, np.array([1, 0, 0, 1])) == 50.0


def test_errors_of_regression_ignore_a_trailing_axis() -> None:
    outputs, targets = np.array([[1.0], [3.0]]), np.array([0.0, 1.0])
    assert mean_squared_error(outputs, targets) == 2.5
    assert mean_absolute_error(outputs, targets) == 1.5


def test_mean_iou_of_a_known_mask() -> None:
    outputs = np.zeros((1, 2, 2, 2))
    outputs[0, 1, 0] = 1  # predicts class 1 in the first row
    targets = np.array([[[1, 0], [0, 0]]])
    assert mean_iou(outputs, targets) == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)


def test_mean_iou_ignores_negative_targets_and_reads_one_channel() -> None:
    outputs = np.array([[[[1.0, -1.0], [1.0, 5.0]]]])
    assert mean_iou(outputs, np.array([[[1, 0], [1, -1]]])) == 100.0


def test_area_under_curve_counts_ties_half() -> None:
    assert area_under_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == 75.0
    assert area_under_curve(np.array([1.0, 1.0]), np.array([0, 1])) == 50.0
    with pytest.raises(InputError, match="normal and anomalous"):
        area_under_curve(np.array([1.0, 2.0]), np.array([1, 1]))


def test_fidelity_compares_with_the_reference() -> None:
    reference = np.array([[2.0, 1.0], [0.0, 1.0]])
    assert agreement(reference, reference) == 100.0
    assert agreement(reference[:, ::-1], reference) == 0.0
    assert signal_to_noise(reference, reference) == 200.0
    assert signal_to_noise(reference * 1.1, reference) == pytest.approx(20.0)


def test_the_metric_follows_the_task_and_the_labels() -> None:
    assert choose_metric(None, "classification", labelled=True).name == "accuracy"
    assert choose_metric(None, "classification", labelled=False).name == "agreement"
    assert choose_metric(None, "regression", labelled=False).name == "sqnr"
    assert choose_metric("miou", "classification", labelled=True).name == "miou"
    assert choose_metric(None, "embedding", labelled=True).name == "recall"
    assert choose_metric(None, "embedding", labelled=False).name == "cosine"
    assert choose_metric(None, "tokens", labelled=True).name == "token-accuracy"
    assert choose_metric(None, "tokens", labelled=False).name == "agreement"
    assert choose_metric(None, "detection", labelled=True).name == "sqnr"


def test_every_task_has_a_metric_with_and_without_labels() -> None:
    for task in get_args(Task):
        assert choose_metric(None, task, labelled=True).name in METRICS
        assert choose_metric(None, task, labelled=False).fidelity


def test_a_users_metric_is_imported_and_its_code_is_part_of_its_identity(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "my_metric.py").write_text("def half(outputs, targets):\n    return 0.5\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    metric = choose_metric("my_metric:half", "classification", labelled=True)
    assert metric.function(np.zeros(1), np.zeros(1)) == 0.5
    assert metric.identity != metric.name


def test_wrong_metrics_are_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'acuracy'"):
        choose_metric("acuracy", "classification", labelled=True)
    with pytest.raises(InputError, match="needs labels"):
        choose_metric("accuracy", "classification", labelled=False)
    with pytest.raises(InputError, match="cannot import no_such_module"):
        choose_metric("no_such_module:f", "classification", labelled=True)


def test_a_drop_is_positive_when_it_gets_worse() -> None:
    assert METRICS["accuracy"].drop(90, 89) == 1
    assert METRICS["mse"].drop(1.0, 1.5) == 0.5


def test_one_logit_decides_between_two_classes() -> None:
    outputs = np.array([[2.0], [-1.0], [0.5], [-3.0]])
    assert decisions(outputs).tolist() == [1, 0, 1, 0]
    assert accuracy(outputs, np.array([1, 0, 0, 1])) == 50.0
    assert agreement(outputs, -outputs) == 0.0


def test_masks_with_a_channel_axis_are_the_same_masks() -> None:
    outputs = np.random.default_rng(0).standard_normal((3, 2, 4, 5))
    masks = np.random.default_rng(1).integers(0, 2, (3, 4, 5))
    assert mean_iou(outputs, masks[:, None]) == mean_iou(outputs, masks) < 100
    with pytest.raises(InputError, match="masks have the shape"):
        mean_iou(outputs, masks[:, :3])


def test_ignored_pixels_of_byte_masks_do_not_count() -> None:
    outputs = np.array([[[[1.0, -1.0], [1.0, 5.0]]]])
    assert mean_iou(outputs, np.array([[[1, 0], [1, 255]]], np.uint8)) == 100.0
    with pytest.raises(InputError, match="marked to be ignored"):
        mean_iou(outputs, np.full((1, 2, 2), 255, np.uint8))


def test_a_users_metric_needs_labels_and_must_be_a_function() -> None:
    with pytest.raises(InputError, match="no function but float"):
        choose_metric("math:pi", "classification", labelled=True)
    with pytest.raises(InputError, match="the data have none; use cosine"):
        choose_metric("math:sqrt", "embedding", labelled=False)
    assert choose_metric("math:sqrt", "detection", labelled=False).own  # it gets all arrays of the data


@pytest.mark.parametrize(
    ("percent", "samples", "low", "high"), [(90.0, 100, 82.56, 94.48), (100.0, 50, 92.87, 100.0), (0.0, 50, 0.0, 7.13)]
)
def test_the_interval_of_a_share(percent: float, samples: int, low: float, high: float) -> None:
    assert METRICS["accuracy"].interval(percent, samples) == pytest.approx((low, high), abs=0.01)  # Wilson's
    assert METRICS["auc"].interval(percent, samples) == (None, None)


def test_token_accuracy_leaves_padding_out() -> None:
    outputs = np.array([[[2.0, 1.0], [0.0, 1.0], [5.0, 0.0]], [[0.0, 1.0], [0.0, 1.0], [9.0, 0.0]]])
    targets = np.array([[0, 1, -1], [0, 1, -100]])
    assert token_accuracy(outputs, targets) == 75.0
    assert token_accuracy(outputs[..., 1:] - outputs[..., :1], targets) == 75.0  # one logit
    with pytest.raises(InputError, match="every position"):
        token_accuracy(outputs, np.full((2, 3), -1))
    with pytest.raises(InputError, match=r"shape \(2, 2\), the outputs decide \(2, 3\)"):
        token_accuracy(outputs, targets[:, :2])


def test_recall_looks_up_the_nearest_other_embedding() -> None:
    outputs = np.array([[1.0, 0.0], [9.0, 1.0], [0.0, 1.0], [-0.1, 2.0], [-1.0, 0.1]])
    assert recall(outputs, np.array([0, 0, 1, 1, 2])) == 80.0  # nobody else is a 2
    assert recall(outputs, np.array([0, 1, 0, 1, 2])) == 0.0
    with pytest.raises(InputError, match="two samples of the same target"):
        recall(outputs, np.arange(5))


def test_recall_of_many_embeddings_is_that_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    outputs, targets = random.standard_normal((1500, 4)), random.integers(0, 30, 1500)
    unit = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    similar = unit @ unit.T - 3 * np.eye(1500)
    assert recall(outputs, targets) == pytest.approx(100 * (targets[similar.argmax(1)] == targets).mean())


def test_the_cosine_does_not_see_lengths() -> None:
    reference = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    assert cosine_similarity(5 * reference, reference) == pytest.approx(100.0)
    assert cosine_similarity(np.array([[4.0, -3.0], [1.0, 0.0], [1.0, 0.0]]), reference) == pytest.approx(100 / 3)


def test_the_interval_of_a_drop_is_that_of_matched_pairs() -> None:
    before, after = np.ones(100, bool), np.ones(100, bool)
    low, high = drop_interval(before, after)
    assert -high == pytest.approx(low) and high == pytest.approx(100 * 1.959964 / 102)  # nothing changed: not 0 to 0
    after[:12] = False
    before[10:12] = False
    after[10:12] = True
    low, high = drop_interval(before, after)  # 10 lost, 2 gained
    spread = 1.959964 * (13 - 8**2 / 102) ** 0.5
    assert (low, high) == pytest.approx((100 * (8 - spread) / 102, 100 * (8 + spread) / 102))
    same = drop_interval(before[:50], before[:50])[1]
    assert same > drop_interval(before, before)[1]  # fewer samples tell less
