"""Archives are read only where torch and Python would see the same records."""

import errno
import zipfile
from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.models.loading.reading import read_record, read_records, reading, record_names, shown, write_archive


def test_records_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    path.write_bytes(write_archive({"data.pkl": b"a", "data/0": b"bc"}).getvalue())
    assert record_names(path) == ["data.pkl", "data/0"]
    assert read_record(path, "data/0") == b"bc"
    assert read_records(path) == {"data.pkl": b"a", "data/0": b"bc"}


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    path.write_bytes(write_archive({"data.pkl": b"weights"}).getvalue().replace(b"weights", b"weighty"))
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_records(path)


def test_bytes_before_the_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    path.write_bytes(b"PTMF" + write_archive({"data.pkl": b"a"}).getvalue())
    with pytest.raises(InputError, match="not a zip archive"):
        read_records(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"good")
        archive.writestr("model/data.pkl", b"bad")
    with pytest.raises(InputError, match="two records of one name"):
        read_records(path)


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(80 * 2**20))
    with pytest.raises(InputError, match="would expand to"):
        read_records(path)


def test_text_from_a_file_cannot_steer_the_terminal() -> None:
    assert shown("conv1.weight") == "conv1.weight"
    assert "\x1b" not in shown("\x1b[2Jgone")
    assert len(shown("x" * 1000)) == 120


def test_any_exception_becomes_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"KeyError: 'a'.*damaged or incomplete"), reading(tmp_path / "model.pt"):
        {}["a"]


def test_what_the_system_says_is_shown_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model.pt cannot be read: Permission denied$"), reading(tmp_path / "model.pt"):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(InputError, match="damaged or incomplete"), reading(tmp_path / "model.pt"):
        raise OSError(errno.EINVAL, "Invalid argument")
