import numpy as np
import pytest

from edgekd.data import Dataset, Part
from edgekd.errors import InputError
from edgekd.models.signature import Preprocessing, Signature, TensorSpec

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 2)),))


def dataset(count: int = 200, **other: object) -> Dataset:
    made = {"inputs": {"x": np.zeros((count, 2), np.float32)}, "targets": np.arange(count) % 4, **other}
    return Dataset(**made)  # type: ignore[arg-type]


def signature_of(task: str, *outputs: tuple[int, ...]) -> Signature:
    specs = tuple(TensorSpec(name=f"output{i + 1}", shape=("batch", *shape)) for i, shape in enumerate(outputs))
    return SIGNATURE.model_copy(update={"task": task, "outputs": specs})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "needs inputs"),
        ({"x": np.zeros((0, 2))}, "no sample"),
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
        dataset(extras={"depth": np.zeros(200)}).digest(),
        dataset(extras={"score": np.zeros(200)}).digest(),
        dataset(extras={"score": np.ones(200)}).digest(),
    }
    assert len(digests) == 8 and dataset().digest() in digests


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


def test_targets_that_are_a_single_value_are_refused() -> None:
    with pytest.raises(InputError, match="targets is a single value"):
        dataset(20, targets=np.array(1))


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ({"depth": np.zeros(19)}, "do not count the same samples.*'depth': 19"),
        ({"depth": np.array(1.0)}, "depth is a single value"),
        ({"caption": np.array(["a"] * 20)}, "caption has dtype <U1"),
        ({"valid": np.full((20, 3), 2)}, "valid is a padding mask"),
        ({"x": np.zeros(20)}, "x is an input and an extra array"),
    ],
)
def test_wrong_extras_are_refused(extras: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(InputError, match=words):
        dataset(20, extras=extras)


def test_a_part_gives_the_extras_of_its_samples() -> None:
    """Inputs that the network does not take are a teacher's: they come along as they are."""
    data = Dataset(
        inputs={"x": np.zeros((4, 2), np.float32), "other": np.arange(4, dtype=np.uint8)},
        extras={"score": np.array([0.0, 1.0, 2.0, 3.0], ">f4")},
    )
    found = Part(data, np.array([3, 1, 0]), SIGNATURE).extras(np.array([0, 2]))
    assert found["score"].tolist() == [3.0, 0.0] and found["score"].dtype == np.float32
    assert found["other"].tolist() == [3, 0] and found["other"].dtype == np.uint8 and "x" not in found


def test_groups_are_numbers() -> None:
    data = dataset(4, groups=np.array(["anna", "bert", "anna", "carl"]))
    found = Part(data, np.array([3, 2, 0]), SIGNATURE).groups(slice(0, 2))
    assert found is not None and found.tolist() == [2, 0]
    assert Part(dataset(4), np.arange(4), SIGNATURE).groups() is None


MASK = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize("name", ["valid", "attention_mask"])
def test_a_padding_mask_is_an_extra_or_an_input(name: str) -> None:
    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", 2)), TensorSpec(name=name, shape=("batch", 3), dtype="int64"))
    )
    inside = dataset(4, inputs={"x": np.zeros((4, 2)), name: MASK})
    beside = dataset(4, extras={name: MASK.astype(bool)})
    for part in (Part(inside, np.array([1, 0]), signature), Part(beside, np.array([1, 0]), SIGNATURE)):
        found = part.valid(slice(0, 1))
        assert found is not None and found.dtype == bool and found.tolist() == [[True, False, False]]
    additive = dataset(4, inputs={"x": np.zeros((4, 2)), name: MASK - 5.0})  # some other input of that name
    assert Part(additive, np.arange(4), signature).valid() is None
    assert Part(dataset(4), np.arange(4), SIGNATURE).valid() is None


def test_padding_takes_tokens_out_of_the_targets() -> None:
    tokens = np.array([[0, 1, 1], [1, 0, 0], [1, -100, 0], [0, 0, 0]])
    part = Part(dataset(4, targets=tokens, extras={"valid": MASK}), np.arange(4), signature_of("tokens", (3, 2)))
    assert part.targets is not None and part.targets.tolist()[:3] == [[0, 1, -1], [1, -1, -1], [1, -1, 0]]
    found = part.valid(np.array([2]))
    assert found is not None and found.tolist() == [[True, False, True]]


def test_masks_say_which_pixels_count() -> None:
    masks = np.array([[[0, 255]], [[1, 1]]], np.uint8)
    signature = signature_of("segmentation", (2, 1, 2))
    found = Part(dataset(2, targets=masks), np.arange(2), signature).valid()
    assert found is not None and found.tolist() == [[[True, False]], [[True, True]]]
    text = dataset(2, targets=masks, extras={"attention_mask": np.zeros((2, 3))})  # of a prompt, not of the pixels
    assert (Part(text, np.arange(2), signature).valid() == found).all()
