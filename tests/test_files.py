import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.files import digest, folder_in_one_step, remove_partial, write_atomic, write_json


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "half")
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), folder_in_one_step(tmp_path / "stage") as partial:
        (partial / "half").write_text("x")
        assert not (tmp_path / "stage").exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with folder_in_one_step(tmp_path / "stage") as partial:
        (partial / "whole").write_text("x")
    with folder_in_one_step(tmp_path / "stage") as partial:
        (partial / "new").write_text("y")
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["new"]


def test_a_kill_in_the_middle_of_a_write_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from edgekd.files import folder_in_one_step\n"
        "with folder_in_one_step(Path(sys.argv[1]) / 'stage') as partial:\n"
        "    (partial / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "stage").exists() and len(list(tmp_path.iterdir())) == 1
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_digest_depends_on_content_not_on_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_others_may_read_what_is_written_as_they_may_read_any_file(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("x")
    write_atomic(tmp_path / "report.html", "x")
    assert (tmp_path / "report.html").stat().st_mode == (tmp_path / "usual").stat().st_mode
