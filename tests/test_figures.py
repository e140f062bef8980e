"""Digits of a score, and what a figure refuses to be."""

import pytest

from edgekd.figures import Figure, in_digits


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (93.774, "%", "93.77"),
        (-0.001, "%", "0.00"),
        (0.13395, "", "0.134"),
        (0.133951, "", "0.134"),
        (1e-6, "", "1e-06"),
    ],
)
def test_percent_has_two_decimals_and_what_has_no_scale_four_digits(value: float, unit: str, text: str) -> None:
    assert in_digits(value, unit) == text


def test_a_change_has_its_sign() -> None:
    assert in_digits(0.00012345, "", "+") == "+0.0001234" and in_digits(-0.004, "%", "+") == "+0.00"


def test_a_number_says_where_it_is_from_and_an_absence_why() -> None:
    with pytest.raises(ValueError, match="how it was obtained"):
        Figure("ms", 1.0)
    with pytest.raises(ValueError, match="the reason"):
        Figure("ms", None)
