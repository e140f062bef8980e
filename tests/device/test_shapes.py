import pytest

from edgekd.device.shapes import named_shape


def test_shapes_as_people_write_them() -> None:
    assert named_shape("1x3x224x224") == ("", (1, 3, 224, 224)) and named_shape("7") == ("", (7,))
    assert named_shape("image:0=2x3x8x8") == ("image:0", (2, 3, 8, 8)) and named_shape("a=b=4") == ("a=b", (4,))


@pytest.mark.parametrize(
    "text", ["", "=1x2", "1x", "x1", "1x0", "-1x2", "1,2", "image", "image=", "1x99999999999999999999"]
)
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(ValueError, match="shape such as|1 or more"):
        named_shape(text)
