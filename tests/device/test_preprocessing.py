import numpy as np
import pytest
from PIL import Image

from edgekd.device.errors import DeviceError
from edgekd.device.preprocessing import normalize, resize_center_crop


def test_normalize_is_the_formula() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = normalize(images, 1 / 255, mean, std)
    expected = (images / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
    last = normalize(images.transpose(0, 2, 3, 1), 1 / 255, mean, std, layout="NHWC")
    np.testing.assert_array_equal(last, result.transpose(0, 2, 3, 1))


def test_normalize_takes_one_value_for_all_channels() -> None:
    images = np.full((1, 3, 2, 2), 255, np.uint8)
    np.testing.assert_allclose(normalize(images, 1 / 255, (0.5,), (0.25,)), 2.0, atol=1e-6)


def test_normalize_refuses_another_number_of_channels() -> None:
    with pytest.raises(DeviceError, match=r"1 channel\(s\).*3 mean"):
        normalize(np.zeros((1, 1, 2, 2), np.uint8), 1.0, (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(("height", "width"), [(96, 120), (33, 47), (300, 260), (8, 8)])
def test_resize_is_that_of_pillow(height: int, width: int) -> None:
    rows, columns = np.mgrid[0:120, 0:150]
    noise = np.random.default_rng(0).integers(0, 40, (120, 150))
    image = np.stack([rows + noise, columns + noise, 200 - rows + noise], axis=-1).astype(np.uint8)
    # a source with the aspect ratio of the result needs no crop
    factor = max(height / 120, width / 150)
    new = (round(150 * factor), round(120 * factor))
    whole = np.asarray(Image.fromarray(image).resize(new, Image.Resampling.BILINEAR)).astype(int)
    top, left = int((new[1] - height) / 2 + 0.5), int((new[0] - width) / 2 + 0.5)
    expected = whole[top : top + height, left : left + width]
    result = resize_center_crop(image, height, width)
    assert result.shape == (height, width, 3) and result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 2
    assert np.abs(result - expected).mean() < 0.35


def test_resize_keeps_an_image_of_the_right_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 1), dtype=np.uint8)
    np.testing.assert_array_equal(resize_center_crop(image, 7, 9), image)


def test_resize_refuses_what_is_no_image() -> None:
    for wrong in (np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)):
        with pytest.raises(DeviceError):
            resize_center_crop(wrong, 2, 2)
