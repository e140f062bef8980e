import pytest

from edgekd.device.errors import CheckFailed, DeviceError, RuntimeMissing
from edgekd.errors import EdgekdError, InputError, StageError, ToolMissing, device_errors_as


@pytest.mark.parametrize(
    ("raised", "kind", "expected"),
    [
        (DeviceError, InputError, InputError),
        (DeviceError, StageError, StageError),
        (CheckFailed, InputError, StageError),
        (RuntimeMissing, InputError, ToolMissing),
        (InputError, StageError, InputError),
        (ValueError, StageError, ValueError),
    ],
)
def test_the_device_half_s_errors_become_ours(
    raised: type[Exception], kind: type[EdgekdError], expected: type[Exception]
) -> None:
    with pytest.raises(expected, match="the words") as caught, device_errors_as(kind):
        raise raised("the words")
    assert type(caught.value) is expected
