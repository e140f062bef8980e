import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgekd.device
from edgekd.device.errors import DeviceError
from edgekd.device.pack import write_pyz


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    write_pyz(tmp_path / "a.pyz")
    write_pyz(tmp_path / "b.pyz")
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()


def test_content_is_the_source_and_nothing_else(tmp_path: Path) -> None:
    write_pyz(tmp_path / "run.pyz")
    package = Path(edgekd.device.__file__).parent
    expected = {f"device/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    with zipfile.ZipFile(tmp_path / "run.pyz") as archive:
        assert archive.namelist() == sorted({*expected, "__main__.py"})
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="none"):
        write_pyz(tmp_path / "none" / "run.pyz")


def test_run_pyz_does_not_build_another_one(tmp_path: Path) -> None:
    write_pyz(tmp_path / "run.pyz")
    code = f"""import sys; sys.path.insert(0, {str(tmp_path / "run.pyz")!r})
from pathlib import Path
from device.errors import DeviceError
from device.pack import write_pyz
try:
    write_pyz(Path("again.pyz"))
except DeviceError as error:
    print(error)"""
    result = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "built on the host" in result.stdout, result.stderr
