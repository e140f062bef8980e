from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.losses.rows import read_rows


def test_rows_come_from_the_recipe_or_from_a_file(tmp_path: Path) -> None:
    rows = ((1.0, 2.0), (3.0, 4.0))
    np.save(tmp_path / "rows.npy", np.array(rows))
    assert read_rows("x", rows).tolist() == read_rows("x", tmp_path / "rows.npy").tolist() == [[1, 2], [3, 4]]


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of the file ran",)


def test_a_file_of_objects_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "rows.npy", np.array([[Harm()]], dtype=object))
    with pytest.raises(InputError, match="x: .*rows.npy"):
        read_rows("x", tmp_path / "rows.npy")
    assert capsys.readouterr().out == ""
    np.load(tmp_path / "rows.npy", allow_pickle=True)
    assert "code of the file ran" in capsys.readouterr().out


def test_any_float_is_read_in_native_order(tmp_path: Path) -> None:
    for dtype in (">f4", "<f2", np.longdouble):
        np.save(tmp_path / "rows.npy", np.ones((2, 3), dtype))
        assert read_rows("x", tmp_path / "rows.npy").tolist() == [[1] * 3] * 2


def test_an_archive_or_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    with path.open("wb") as file:
        np.savez(file, a=np.ones((2, 3)))
    with pytest.raises(InputError, match="archive of arrays"):
        read_rows("x", path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"x: .*rows.npy"):
        read_rows("x", path)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((2, 3), int), np.array([[1.0, np.nan]])])
def test_what_is_no_table_of_finite_floats_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    np.save(tmp_path / "rows.npy", wrong)
    with pytest.raises(InputError, match="x: .*rows of finite floats"):
        read_rows("x", tmp_path / "rows.npy")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x: .*none.npy"):
        read_rows("x", tmp_path / "none.npy")
