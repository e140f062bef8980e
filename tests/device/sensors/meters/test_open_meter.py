"""What may be a meter, and what is none."""

import os
from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.sensors import find_sensor


def test_what_is_no_meter_is_bad_usage(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, words in (
        ("", "names no file"),
        (tmp_path / "ttyUSB0", "does not exist"),
        (tmp_path, "neither a file nor a serial line"),
        (tmp_path / "fifo", "neither a file nor a serial line"),
        ("/dev/zero", "no serial line"),
    ):
        with pytest.raises(DeviceError, match=words) as refused:
            find_sensor(f"meter:{name}")
        assert refused.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_meter_that_may_not_be_read_gives_no_figure(tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.touch(mode=0)
    with pytest.raises(CheckFailed, match="may not be read"), find_sensor(f"meter:{path}"):
        pass
