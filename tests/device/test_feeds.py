from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.feeds import batch_of, read_feeds, shapes_of
from edgekd.device.manifest import Manifest, Preprocessing, read_manifest
from edgekd.device.runtimes.session import TensorInfo

IMAGE, BOX = TensorInfo("image:0", ("N", 3, "H", "W"), "float32"), TensorInfo("box", (1, 4), "int64")


@pytest.fixture
def manifest(artifact: Path) -> Manifest:
    return read_manifest(artifact)


def saved(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "x.npy", array)
    return folder / "x.npy"


def test_float_array_is_taken_as_it_is(manifest: Manifest, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 1, 8, 8))
    feeds = read_feeds(saved(tmp_path, array), manifest)
    np.testing.assert_array_equal(feeds["image"], array.astype(np.float32))
    assert read_feeds(saved(tmp_path, array[0]), manifest)["image"].shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 8), (1, 1, 8, 8)),
        ((8, 8, 1), (1, 1, 8, 8)),
        ((1, 8, 8), (1, 1, 8, 8)),
        ((4, 8, 8), (4, 1, 8, 8)),
        ((4, 1, 8, 8), (4, 1, 8, 8)),
        ((4, 8, 8, 1), (4, 1, 8, 8)),
        ((2, 20, 31, 1), (2, 1, 8, 8)),
    ],
)
def test_raw_images_are_cut_to_size_and_preprocessed(
    manifest: Manifest, tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    image = read_feeds(saved(tmp_path, np.full(shape, 255, np.uint8)), manifest)["image"]
    assert image.shape == expected and image.dtype == np.float32
    np.testing.assert_allclose(image, 2.0, atol=1e-5)


def test_model_that_preprocesses_itself_gets_raw_values(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    inside = Preprocessing("NCHW", 1 / 255, (0.5,), (0.25,), inside_model=True)
    manifest = read_manifest(make_artifact(preprocessing=inside))
    image = read_feeds(saved(tmp_path, np.full((8, 8), 255, np.uint8)), manifest)["image"]
    np.testing.assert_array_equal(image, np.full((1, 1, 8, 8), 255, np.float32))


def test_raw_values_of_a_flat_input_are_preprocessed(make_artifact: Callable[..., Path], tmp_path: Path) -> None:
    manifest = read_manifest(make_artifact(inputs=(TensorInfo("image", ("batch", 5), "float32"),)))
    image = read_feeds(saved(tmp_path, np.full(5, 255, np.uint8)), manifest)["image"]
    np.testing.assert_allclose(image, np.full((1, 5), 2.0), atol=1e-5)


def test_samples_file_is_an_input_too(manifest: Manifest, artifact: Path) -> None:
    assert read_feeds(artifact / "samples.npz", manifest)["image"].shape == (10, 1, 8, 8)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), r"has shape \[1, 3, 8, 8\], expected \['batch', 1, 8, 8\]"),
        (np.zeros((1, 3, 8, 8), np.uint8), "images with 1 channel"),
        (np.zeros((1, 1, 8, 8), np.complex64), "has dtype complex64"),
        (np.zeros((0, 1, 8, 8), np.float32), "holds no values"),
        (np.zeros((0, 8, 8), np.uint8), "holds no values"),
        (np.array(3, np.uint8), "images with 1 channel"),
    ],
)
def test_array_that_does_not_fit_is_refused(
    manifest: Manifest, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        read_feeds(saved(tmp_path, array), manifest)


def test_wrong_names_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", picture=np.zeros((1, 1, 8, 8), np.float32))
    with pytest.raises(DeviceError, match=r"holds \['picture'\], the model's inputs are \['image'\]"):
        read_feeds(tmp_path / "x.npz", manifest)


def test_batch_repeats_samples(manifest: Manifest) -> None:
    inputs = {"image": np.arange(2 * 64, dtype=np.float32).reshape(2, 1, 8, 8)}
    assert batch_of(inputs, manifest, None)["image"].shape == (1, 1, 8, 8)
    five = batch_of(inputs, manifest, 5)["image"]
    np.testing.assert_array_equal(five, inputs["image"][[0, 1, 0, 1, 0]])
    with pytest.raises(DeviceError, match="1 or more"):
        batch_of(inputs, manifest, 0)


def test_fixed_batch_is_kept(make_artifact: Callable[..., Path]) -> None:
    manifest = read_manifest(make_artifact(batch=4))
    inputs = {"image": np.zeros((2, 1, 8, 8), np.float32)}
    assert batch_of(inputs, manifest, None)["image"].shape == (4, 1, 8, 8)
    with pytest.raises(DeviceError, match="--batch 4"):
        batch_of(inputs, manifest, 1)


def test_a_data_set_with_its_labels_is_an_input_too(manifest: Manifest, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    for name in ("x", "image"):
        np.savez(tmp_path / "data.npz", **{name: array, "y": np.arange(3), "held_out": np.ones(3, bool)})
        feeds = read_feeds(tmp_path / "data.npz", manifest)
        assert list(feeds) == ["image"] and (feeds["image"] == array).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(manifest: Manifest, tmp_path: Path, value: float) -> None:
    array = np.zeros((1, 1, 8, 8), np.float32)
    array[0, 0, 3, 3] = value
    with pytest.raises(DeviceError, match="holds NaN or infinite values"):
        read_feeds(saved(tmp_path, array), manifest)


def test_an_input_that_all_samples_share_keeps_its_batch_of_one(manifest: Manifest) -> None:
    shared, free = TensorInfo("user", (1, 2), "float32"), TensorInfo("item", ("batch", 3), "float32")
    both = replace(manifest, inputs=(shared, free))
    inputs = {"user": np.ones((4, 2), np.float32), "item": np.ones((4, 3), np.float32)}
    assert {name: len(array) for name, array in batch_of(inputs, both, 300).items()} == {"user": 1, "item": 300}


def test_a_shape_belongs_to_an_input_that_takes_it() -> None:
    assert shapes_of([("", (1, 3, 8, 8))], [IMAGE], None) == {"image:0": (1, 3, 8, 8)}
    assert shapes_of([("image:0", (2, 3, 8, 8))], [IMAGE, BOX], 2) == {"image:0": (2, 3, 8, 8)}


@pytest.mark.parametrize(
    ("given", "batch", "words"),
    [
        (("", (1, 3, 8, 8)), None, "several inputs"),
        (("mask", (1, 3)), None, "no input 'mask'; it has image:0"),
        (("image:0", (1, 4, 8, 8)), None, "expected"),
        (("image:0", (3, 8, 8)), None, "expected"),
        (("image:0", (1, 3, 8, 8)), 2, "give one of them"),
    ],
)
def test_a_shape_that_does_not_fit(given: tuple[str, tuple[int, ...]], batch: int | None, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        shapes_of([given], [IMAGE, BOX], batch)
