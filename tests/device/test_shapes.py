import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.runtimes.session import TensorInfo
from edgekd.device.shapes import named_shape, shapes_of

IMAGE, BOX = TensorInfo("image:0", ("N", 3, "H", "W"), "float32"), TensorInfo("box", (1, 4), "int64")


def test_shapes_as_people_write_them() -> None:
    assert named_shape("1x3x224x224") == ("", (1, 3, 224, 224)) and named_shape("7") == ("", (7,))
    assert named_shape("image:0=2x3x8x8") == ("image:0", (2, 3, 8, 8)) and named_shape("a=b=4") == ("a=b", (4,))


@pytest.mark.parametrize(
    "text", ["", "=1x2", "1x", "x1", "1x0", "-1x2", "1,2", "image", "image=", "1x99999999999999999999"]
)
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(ValueError, match="shape such as|1 or more"):
        named_shape(text)


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
