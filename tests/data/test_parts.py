import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.data import Dataset, split
from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec

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


def test_too_few_samples_say_which_part_is_empty() -> None:
    with pytest.raises(InputError, match="leave nothing for"):
        split(dataset(4, targets=None), SIGNATURE, calibration=1, validation=0.05, evaluation=0.2)


def test_calibration_takes_a_share_at_most() -> None:
    parts = split(dataset(200), SIGNATURE, calibration=512, validation=0.1, evaluation=0.2, largest_calibration=0.5)
    assert parts.sizes() == {"train": 72, "calibration": 72, "validation": 16, "evaluation": 40}


@pytest.mark.parametrize(
    ("task", "targets", "words"),
    [
        ("classification", np.zeros(200, int), "has one class only; accuracy on it means nothing"),
        ("embedding", np.full(200, 7), "has one class only; recall on it means nothing"),
        ("tokens", np.full((200, 5), -1), "has no target that counts"),
        ("segmentation", np.full((200, 2, 2), 255, np.uint8), "has no target that counts"),
    ],
)
def test_targets_that_tell_nothing_are_an_error(task: str, targets: np.ndarray, words: str) -> None:
    signature = SIGNATURE.model_copy(update={"task": task})
    with pytest.raises(InputError, match=words):
        split(dataset(targets=targets), signature, calibration=20, validation=0.1, evaluation=0.2)


def test_calibration_needs_no_sample_of_every_identity() -> None:
    signature = SIGNATURE.model_copy(update={"task": "embedding"})
    parts = split(dataset(targets=np.arange(200) // 2), signature, calibration=20, validation=0.1, evaluation=0.2)
    assert len(parts.calibration) == 20


@pytest.mark.parametrize("held_out", [False, True])
def test_samples_without_a_label_are_trained_on_and_nothing_else(held_out: bool) -> None:
    targets = np.where(np.arange(400) % 5 < 3, -1, np.arange(400) // 5 % 4)
    mark = np.arange(400) >= 300 if held_out else None
    data = dataset(400, targets=targets, held_out=mark)
    parts = split(data, SIGNATURE, calibration=20, validation=0.1, evaluation=0.2)
    for part in (parts.calibration, parts.validation, parts.evaluation):
        assert (targets[part.indices] >= 0).all()
    usable = (targets < 0) & ~(np.zeros(400, bool) if mark is None else mark)
    assert set(np.flatnonzero(usable)) == set(parts.train.indices[targets[parts.train.indices] < 0])
    assert len(parts.evaluation) == (40 if held_out else 32)


def test_a_sample_without_a_label_stays_out_where_its_group_is_elsewhere() -> None:
    targets, groups = np.where(np.arange(400) % 2, -1, np.arange(400) // 2 % 4), np.repeat(np.arange(40), 10)
    parts = split(
        dataset(400, targets=targets, groups=groups), SIGNATURE, calibration=40, validation=0.2, evaluation=0.25
    )
    others = np.concatenate([part.indices for part in (parts.calibration, parts.validation, parts.evaluation)])
    assert not set(groups[parts.train.indices]) & set(groups[others])
    assert (targets[parts.train.indices] < 0).any()


def test_targets_that_are_all_unlabelled_are_refused() -> None:
    with pytest.raises(InputError, match="no sample has a label, all targets are -1"):
        split(dataset(targets=np.full(200, -1)), SIGNATURE, calibration=20, validation=0.1, evaluation=0.2)
