import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.data import Dataset, Part, split
from edgekd.data.dataset import check_fit
from edgekd.errors import InputError
from edgekd.models.signature import Preprocessing, Signature, TensorSpec

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 2)),))


def dataset(count: int = 200, **other: object) -> Dataset:
    made = {"inputs": {"x": np.zeros((count, 2), np.float32)}, "targets": np.arange(count) % 4, **other}
    return Dataset(**made)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.integers(60, 400), st.integers(8, 40), st.floats(0.05, 0.3), st.floats(0.05, 0.3), st.booleans())
def test_the_four_parts_are_disjoint_and_complete(
    count: int, calibration: int, validation: float, evaluation: float, held_out: bool
) -> None:
    mark = np.arange(count) >= count - 20 if held_out else None
    parts = split(
        dataset(count, held_out=mark), SIGNATURE, calibration=calibration, validation=validation, evaluation=evaluation
    )
    indices = [parts.train, parts.calibration, parts.validation, parts.evaluation]
    together = np.concatenate([part.indices for part in indices])
    assert sorted(together) == list(range(count))
    assert len(parts.calibration) == min(calibration, len(parts.calibration) + len(parts.train))
    if held_out:
        assert set(parts.evaluation.indices) == set(range(count - 20, count))


def test_the_cut_is_the_same_every_time() -> None:
    cuts = [split(dataset(), SIGNATURE, calibration=20, validation=0.1, evaluation=0.2) for _ in range(2)]
    assert cuts[0].train.indices.tolist() == cuts[1].train.indices.tolist()


def test_classes_are_spread_evenly_over_the_parts() -> None:
    parts = split(dataset(400), SIGNATURE, calibration=40, validation=0.1, evaluation=0.25)
    for part in (parts.calibration, parts.evaluation):
        counts = np.bincount(part.targets)  # type: ignore[arg-type]
        assert counts.max() - counts.min() <= 1


def test_groups_stay_whole() -> None:
    groups = np.repeat(np.arange(40), 5)
    parts = split(dataset(200, groups=groups), SIGNATURE, calibration=40, validation=0.2, evaluation=0.25)
    owners = [
        set(groups[part.indices]) for part in (parts.train, parts.calibration, parts.validation, parts.evaluation)
    ]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 40


def test_a_class_that_calibration_lacks_is_an_error() -> None:
    targets = np.zeros(200, int)
    targets[:3] = 1
    targets[3:6] = 2
    split(dataset(targets=targets), SIGNATURE, calibration=3, validation=0.01, evaluation=0.01)
    with pytest.raises(InputError, match="calibration part .* lacks the classes"):
        split(dataset(targets=targets), SIGNATURE, calibration=2, validation=0.1, evaluation=0.2)


def test_one_class_only_is_an_error() -> None:
    with pytest.raises(InputError, match="one class only"):
        split(dataset(targets=np.zeros(200, int)), SIGNATURE, calibration=20, validation=0.1, evaluation=0.2)


def test_too_few_samples_say_which_part_is_empty() -> None:
    with pytest.raises(InputError, match="leave nothing for"):
        split(dataset(4, targets=None), SIGNATURE, calibration=1, validation=0.05, evaluation=0.2)


def test_a_wrong_shape_says_both_shapes() -> None:
    wide = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3)),))
    with pytest.raises(InputError, match=r"has shape \('N', 2\), the model takes \('N', 3\)"):
        split(dataset(), wide, calibration=20, validation=0.1, evaluation=0.2)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "needs inputs"),
        ({"x": np.zeros((0, 2))}, "at least one"),
        ({"x": np.zeros((3, 2)), "y": np.zeros((2, 2))}, "do not count the same"),
        ({"x": np.array([[np.nan, 1.0]])}, "NaN or infinite"),
        ({"x": np.array([["a"]])}, "numbers are needed"),
    ],
)
def test_wrong_arrays_are_refused(inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Dataset(inputs=inputs)


def test_bytes_are_preprocessed_and_floats_are_not() -> None:
    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", 1, 1, 2)),),
        preprocessing=Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25,)),
    )
    raw = Dataset(inputs={"x": np.array([[[[0, 255]]]] * 4, np.uint8)})
    ready = Dataset(inputs={"x": np.array([[[[0.0, 1.0]]]] * 4, np.float32)})
    everything = np.arange(4)
    np.testing.assert_allclose(Part(raw, everything, signature).inputs()["x"][0], [[[-2.0, 2.0]]])
    np.testing.assert_allclose(Part(ready, everything, signature).inputs()["x"][0], [[[0.0, 1.0]]])


def test_the_digest_sees_values_targets_and_settings() -> None:
    digests = {
        dataset().digest(),
        dataset(targets=np.arange(200) % 5).digest(),
        dataset(inputs={"x": np.ones((200, 2), np.float32)}).digest(),
        dataset(augmentations=("shift",)).digest(),
        dataset(groups=np.arange(200)).digest(),
    }
    assert len(digests) == 5 and dataset().digest() in digests


@pytest.mark.parametrize(
    ("task", "output", "targets", "words"),
    [
        ("classification", (10,), np.arange(20) % 10 + 1, r"\[10\].*from 0 to 9"),
        ("classification", (1,), np.arange(20) % 3, "tells 2 classes"),
        ("classification", (3,), np.arange(20) % 3 - 1, r"\[-1\]"),
        ("classification", (3,), np.zeros((20, 3)), r"integers \(N,\)"),
        ("classification", (3, 4, 4), np.arange(20) % 3, r"\(N, classes\)"),
        ("segmentation", (2, 4, 4), np.full((20, 4, 4), 2), "from 0 to 1"),
        ("segmentation", (2, 4, 4), np.zeros((20, 5, 4), int), "height and width"),
        ("segmentation", (2, 4, 4), np.zeros((20, 4, 4)), "masks of class indices"),
        ("regression", (3,), np.zeros((20, 2)), "every value of the output"),
        ("regression", (1,), np.array(["a"] * 20), "are numbers"),
        ("regression", (1,), np.full(20, np.nan), "NaN"),
        ("anomaly", (2,), np.arange(20) % 3, "0 for normal and 1 for anomalous"),
        ("anomaly", (2,), np.zeros((20, 4, 4), int), r"integers \(N,\)"),
    ],
)
def test_targets_that_do_not_fit_the_outputs_are_named(
    task: str, output: tuple[int, ...], targets: np.ndarray, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_fit(dataset(20, targets=targets), signature_of(task, output))


@pytest.mark.parametrize(
    ("task", "output", "targets"),
    [
        ("classification", (1,), np.arange(20) % 2),
        ("segmentation", (2, 4, 4), np.full((20, 1, 4, 4), 255, np.uint8)),
        ("segmentation", (1, 4, 4), np.full((20, 4, 4), True)),
        ("segmentation", (2, 4, 4), np.full((20, 4, 4), -100)),
        ("regression", (1,), np.zeros(20)),
        ("anomaly", (2,), np.arange(20) % 2),
    ],
)
def test_targets_that_fit_are_taken(task: str, output: tuple[int, ...], targets: np.ndarray) -> None:
    check_fit(dataset(20, targets=targets), signature_of(task, output))


def signature_of(task: str, output: tuple[int, ...]) -> Signature:
    outputs = (TensorSpec(name="output", shape=("batch", *output)),)
    return SIGNATURE.model_copy(update={"task": task, "outputs": outputs})


def test_a_part_gives_masks_as_training_and_metric_take_them() -> None:
    masks = np.array([[[[0, 255]]]] * 4, np.uint8)
    part = Part(dataset(4, targets=masks), np.arange(4), signature_of("segmentation", (2, 1, 2)))
    assert part.targets is not None and part.targets.tolist() == [[[0, -1]]] * 4


def test_bytes_are_preprocessed_for_every_float() -> None:
    spec = TensorSpec(name="x", shape=("batch", 1, 1, 2), dtype="float16")
    signature = Signature(inputs=(spec,), preprocessing=Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25,)))
    raw = Dataset(inputs={"x": np.array([[[[0, 255]]]] * 4, np.uint8)})
    made = Part(raw, np.arange(4), signature).inputs()["x"]
    assert made.dtype == np.float16
    np.testing.assert_allclose(made[0], [[[-2.0, 2.0]]], atol=1e-2)


def test_calibration_takes_a_share_at_most() -> None:
    parts = split(dataset(200), SIGNATURE, calibration=512, validation=0.1, evaluation=0.2, largest_calibration=0.5)
    assert parts.sizes() == {"train": 72, "calibration": 72, "validation": 16, "evaluation": 40}


def test_targets_that_are_a_single_value_are_refused() -> None:
    with pytest.raises(InputError, match="targets is a single value"):
        dataset(20, targets=np.array(1))


def test_as_many_labels_as_the_network_tells_classes() -> None:
    """Three folders say nothing of which three of ten outputs they are."""
    labelled = dataset(20, targets=np.arange(20) % 3, labels=("a", "b", "c"))
    check_fit(labelled, signature_of("classification", (3,)))
    with pytest.raises(InputError, match="has 3 classes .*and the network tells 10; list all labels"):
        check_fit(labelled, signature_of("classification", (10,)))
