import numpy as np
import pytest

from edgekd.data import Dataset, split
from edgekd.data.fit import check_fit
from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 2)),))


def dataset(count: int = 200, **other: object) -> Dataset:
    made = {"inputs": {"x": np.zeros((count, 2), np.float32)}, "targets": np.arange(count) % 4, **other}
    return Dataset(**made)  # type: ignore[arg-type]


def signature_of(task: str, *outputs: tuple[int, ...]) -> Signature:
    specs = tuple(TensorSpec(name=f"output{i + 1}", shape=("batch", *shape)) for i, shape in enumerate(outputs))
    return SIGNATURE.model_copy(update={"task": task, "outputs": specs})


def test_a_wrong_shape_says_both_shapes() -> None:
    wide = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3)),))
    with pytest.raises(InputError, match=r"has shape \('N', 2\), the model takes \('N', 3\)"):
        split(dataset(), wide, calibration=20, validation=0.1, evaluation=0.2)


@pytest.mark.parametrize(
    ("task", "output", "targets", "words"),
    [
        ("classification", (10,), np.arange(20) % 10 + 1, r"\[10\].*from 0 to 9"),
        ("classification", (1,), np.arange(20) % 3, "tells 2 classes"),
        ("classification", (3,), np.arange(20) % 3 - 2, r"\[-2\].*-1 stands for no label"),
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
        ("embedding", (8,), np.zeros(20), r"identity or class of every sample, integers \(N,\)"),
        ("embedding", (8, 4, 4), np.arange(20), r"a vector a sample, \(N, D\)"),
        ("tokens", (5, 3), np.zeros((20, 5)), r"integers \(N, L\), -1 for padding"),
        ("tokens", (5, 3), np.zeros((20, 6), int), r"output \(N, L, classes\), and targets as long"),
        ("tokens", (3,), np.zeros((20, 5), int), r"output \(N, L, classes\)"),
        ("tokens", (5, 3), np.full((20, 5), 3), r"\[3\]: they go from 0 to 2"),
        ("detection", (7, 4), np.zeros((20, 7)), "a detection needs a target for every value .*extra array"),
        ("detection", (7,), np.array([["a"] * 7] * 20), "are numbers"),
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
        ("classification", (3,), np.arange(20) % 4 - 1),
        ("segmentation", (2, 4, 4), np.full((20, 4, 4), -100)),
        ("regression", (1,), np.zeros(20)),
        ("anomaly", (2,), np.arange(20) % 2),
        ("embedding", (8,), np.arange(20) + 1000),
        ("tokens", (5, 3), np.full((20, 5), -1)),
        ("detection", (7, 4), np.zeros((20, 28))),
    ],
)
def test_targets_that_fit_are_taken(task: str, output: tuple[int, ...], targets: np.ndarray) -> None:
    check_fit(dataset(20, targets=targets), signature_of(task, output))


def test_as_many_labels_as_the_network_tells_classes() -> None:
    """Three folders say nothing of which three of ten outputs they are."""
    labelled = dataset(20, targets=np.arange(20) % 3, labels=("a", "b", "c"))
    check_fit(labelled, signature_of("classification", (3,)))
    with pytest.raises(InputError, match="has 3 classes .*and the network tells 10; list all labels"):
        check_fit(labelled, signature_of("classification", (10,)))


def test_targets_of_further_outputs_are_named_by_them() -> None:
    boxes = {"targets.output2": np.zeros((20, 7, 4))}
    check_fit(dataset(20, targets=None, extras=boxes), signature_of("detection", (7,), (7, 4)))
    with pytest.raises(InputError, match="no further output; name one of output2"):
        check_fit(
            dataset(20, targets=None, extras={"targets.boxes": boxes["targets.output2"]}),
            signature_of("detection", (7,), (7, 4)),
        )
    with pytest.raises(InputError, match="the network has one output: call them targets"):
        check_fit(dataset(20, targets=None, extras={"targets.output1": np.zeros(20)}), signature_of("regression", (1,)))


def test_a_padding_mask_is_as_long_as_the_tokens() -> None:
    tokens = np.zeros((20, 5), int)
    check_fit(dataset(20, targets=tokens, extras={"valid": tokens == 0}), signature_of("tokens", (5, 3)))
    with pytest.raises(InputError, match=r"padding mask has the shape \('N', 6\), not theirs"):
        check_fit(dataset(20, targets=tokens, extras={"valid": np.ones((20, 6))}), signature_of("tokens", (5, 3)))
