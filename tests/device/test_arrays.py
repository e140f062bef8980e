from pathlib import Path

import numpy as np
import pytest

from edgekd.device.arrays import read_arrays, write_arrays
from edgekd.device.errors import DeviceError


def test_arrays_are_read_back_and_written_the_same_twice(tmp_path: Path) -> None:
    arrays = {"input.x": np.arange(6, dtype=np.int8).reshape(2, 3), "output.y": np.array(1.5, np.float32)}
    write_arrays(tmp_path / "a.npz", arrays)
    write_arrays(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_npy_file_has_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    assert list(read_arrays(tmp_path / "a.npy")) == [""]


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x93NUMPY\x01\x00", b"\x80\x04K\x01."])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DeviceError, match="a.npz is not a readable"):
        read_arrays(tmp_path / "a.npz")


def test_flipped_byte_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"x": np.ones(100)})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[400] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DeviceError, match="a.npz"):
        read_arrays(tmp_path / "a.npz")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DeviceError, match="pickled objects are refused"):
        read_arrays(tmp_path / "a.npz")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(DeviceError):
            read_arrays(path)
