import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.versions import satisfies


@pytest.mark.parametrize(
    ("installed", "requirement", "expected"),
    [
        ("1.23.2", ">=1.20", True),
        ("1.3", ">=1.20", False),
        ("1.20", ">=1.20.0", True),
        ("2.0.0", ">=1.20,<2", False),
        ("1.31.1", ">=1.20, <2", True),
        ("1.23.2+cpu", "==1.23.2", True),
        ("1.23.2", "!=1.23.2", False),
        ("3.10.13", ">=3.10", True),
        ("1.0", "", True),
    ],
)
def test_requirement(installed: str, requirement: str, expected: bool) -> None:
    assert satisfies(installed, requirement) is expected


@pytest.mark.parametrize("requirement", ["latest", "1.2", ">=x", "~=1.2", ">=1.2;x"])
def test_unreadable_requirement_is_refused(requirement: str) -> None:
    with pytest.raises(DeviceError, match="version requirement"):
        satisfies("1.0", requirement)
