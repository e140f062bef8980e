import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.device.artifact import open_artifact
from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.manifest import SelfCheckSpec, read_manifest
from edgekd.device.selfcheck import Samples, check, compare_output, read_samples, write_samples


def test_sound_artifact_passes(artifact: Path) -> None:
    opened = open_artifact(artifact)
    result = check(opened.session, read_samples(artifact / "samples.npz", opened.manifest), opened.manifest)
    assert result.passed and result.failures == () and result.origin == "synthetic"
    (logits,) = result.outputs
    assert logits.samples == 10 and logits.agreement == 1.0 and logits.cosine > 0.999999
    assert logits.max_abs_difference < 1e-3
    assert result.to_dict()["passed"] is True


def test_wrong_results_fail_with_the_reason(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact(outputs=np.random.default_rng(5).normal(size=(10, 6)).astype(np.float32))
    opened = open_artifact(folder)
    result = check(opened.session, read_samples(folder / "samples.npz", opened.manifest), opened.manifest)
    assert not result.passed
    assert "logits: cosine" in result.failures[0] and "logits: agreement" in result.failures[1]


@pytest.mark.parametrize(("task", "agreement"), [("regression", 1.0), ("embedding", 1.0), ("classification", None)])
def test_agreement_counts_only_where_it_means_something(
    make_artifact: Callable[..., Path], task: str, agreement: float | None
) -> None:
    outputs = np.random.default_rng(5).normal(size=(10, 6)).astype(np.float32)
    limits = SelfCheckSpec("samples.npz", "synthetic", agreement, cosine=0.0)
    folder = make_artifact(outputs=np.abs(outputs), task=task, selfcheck=limits)
    opened = open_artifact(folder)
    assert check(opened.session, read_samples(folder / "samples.npz", opened.manifest), opened.manifest).passed


def test_other_shape_is_a_failed_check() -> None:
    with pytest.raises(CheckFailed, match=r"'y' has shape \[2, 3\], its reference \[2, 4\]"):
        compare_output("y", np.zeros((2, 3)), np.zeros((2, 4)))


def test_comparison_of_known_vectors() -> None:
    one = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    other = np.array([[0.0, 1.0], [0.0, 0.0], [2.0, 2.0], [1.0, 0.5]])
    result = compare_output("y", one, other)
    assert result.cosine == pytest.approx((0 + 1 + 1 + 0) / 4) and result.lowest_cosine == 0
    assert result.max_abs_difference == 1.0 and result.agreement == pytest.approx(3 / 4)


def test_decisions_are_counted_along_the_classes() -> None:
    one = np.random.default_rng(0).normal(size=(4, 3, 3))
    other = one.copy()
    other[0, 0] = -one[0, 0]  # one of twelve positions
    assert compare_output("y", one, other, -1).agreement == pytest.approx(11 / 12)
    assert compare_output("y", one, other, None).agreement is None


def test_one_value_a_sample_is_compared_as_one_vector() -> None:
    result = compare_output("y", np.array([1.0, -1e-9]), np.array([1.0, 1e-9]))
    assert result.cosine == pytest.approx(1.0) and result.agreement is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_never_pass(wrong: float) -> None:
    outputs = np.array([[1.0, 2.0]])
    for result in (compare_output("y", outputs * wrong, outputs), compare_output("y", outputs, outputs * wrong)):
        assert np.isnan([result.cosine, result.agreement]).all()


def test_not_a_number_fails_the_check(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact(outputs=np.full((10, 6), np.nan, np.float32), task="regression")
    opened = open_artifact(folder)
    assert not check(opened.session, read_samples(folder / "samples.npz", opened.manifest), opened.manifest).passed


def test_samples_with_other_names_or_without_samples_are_refused(artifact: Path, tmp_path: Path) -> None:
    manifest = read_manifest(artifact)
    image, logits = np.zeros((0, 1, 8, 8), np.float32), np.zeros((0, 6), np.float32)
    write_samples(tmp_path / "s.npz", Samples({"image": image}, {"scores": logits}))
    with pytest.raises(DeviceError, match="output.logits"):
        read_samples(tmp_path / "s.npz", manifest)
    write_samples(tmp_path / "s.npz", Samples({"image": image}, {"logits": logits}))
    with pytest.raises(DeviceError, match="no samples"):
        read_samples(tmp_path / "s.npz", manifest)


def test_result_is_frozen(artifact: Path) -> None:
    result = compare_output("y", np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.cosine = 0.0  # type: ignore[misc]
