import pytest

from edgekd.device.frame_size import frame_size


def test_width_comes_first() -> None:
    assert frame_size("640x480") == (640, 480)


@pytest.mark.parametrize("text", ["", "640", "640x", "0x480", "640x480x3", "-1x2", "99999x1", "640*480"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no size such as 640x480"):
        frame_size(text)
