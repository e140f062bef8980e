import pytest

from edgekd.device.durations import seconds


@pytest.mark.parametrize(
    ("text", "value"), [("10", 10.0), ("0.5", 0.5), ("10s", 10.0), ("1.5m", 90.0), ("2h", 7200.0), (" 3 m ", 180.0)]
)
def test_units(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "ten", "10 minutes", "25h", "nan", "1e3", "5ms"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration above 0"):
        seconds(text)
