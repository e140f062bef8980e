"""Run directories that lie around: what is in them, and making them smaller."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgekd.device.manifest import read_manifest
from edgekd.errors import InputError
from edgekd.run import MARKER, find_runs, onnx_of_stage
from edgekd.verbs.artifact_path import artifact_folder, artifact_folders

REMOVED = ("stages", "onnx", "figures")  # what a run can make again
REPORT = "report.json"
BENCH_REPORT = "bench.json"


@dataclass(frozen=True)
class RunView:
    """A run directory from outside.

    `state` is `at work` (locked), `finished`, or `not finished` (killed, failed, or begun again since its report).
    """

    path: str
    model: str | None
    targets: tuple[str, ...]
    state: str
    bytes: int
    changed: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def list_runs(folders: list[Path]) -> list[RunView]:
    """Return the runs in these folders and one level below, each once, the newest first."""
    found = {path.resolve(): path for folder in folders if folder.is_dir() for path in find_runs(folder)}
    views = [view(path) for path in found.values()]
    return sorted(views, key=lambda one: one.changed, reverse=True)


def view(path: Path) -> RunView:
    """Look at one run directory."""
    report = _json(path / REPORT)
    reports = [one for one in report.get("targets", [report]) if isinstance(one, dict)]
    manifests = [_json(folder / "manifest.json") for folder in artifact_folders(path)]
    models = [str(one["model"]["name"]) for one in reports if isinstance(one.get("model"), dict)]
    models += [str(one["name"]) for one in manifests if "name" in one]
    targets = [str(one["target"]) for one in (*reports, *manifests) if "target" in one]
    begun = _json(path / MARKER)  # a killed run has nothing else; a run begun again may be about something else
    if begun.get("model") and isinstance(begun.get("targets"), list):
        models, targets = [str(begun["model"])], [str(one) for one in begun["targets"]]
    changed = max((_changed(path / name) for name in (MARKER, "log.jsonl", REPORT, BENCH_REPORT)), default=0.0)
    return RunView(
        path=str(path),
        model=models[0] if models else None,
        targets=tuple(dict.fromkeys(targets)),
        state="at work" if _locked(path) else "finished" if _finished(path) else "not finished",
        bytes=_size(path),
        changed=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changed)),
    )


def last_file(path: Path) -> Path:
    """Return the ONNX file of a run's last state: the artifact's, or that of the last stage which an unfinished run has.

    Raises:
        InputError: it is neither a run directory nor an artifact folder, holds several artifacts, or no stage yet.
    """
    if not (path / MARKER).is_file() or _finished(path):
        folder = artifact_folder(path)
        return folder / read_manifest(folder).model_file
    for state in sorted((path / "stages").glob("*/state.json"), key=_changed, reverse=True):
        file = onnx_of_stage(state.parent)
        if file is not None:
            return file
    raise InputError(f"the run in {path} has finished no stage yet")


def removable(path: Path, *, keep_artifact: bool = True) -> dict[str, int]:
    """Return what `clean` would remove from a run directory, with its size in bytes.

    Raises:
        InputError: it is no run directory.
    """
    if not (path / MARKER).is_file():
        raise InputError(f"{path} is no run directory (it has no {MARKER}); `edgekd runs list` shows them")
    names = REMOVED if keep_artifact else (*REMOVED, "artifact")
    return {name: _size(path / name) for name in names if (path / name).exists()}


def clean(path: Path, *, keep_artifact: bool = True) -> dict[str, int]:
    """Remove the stored outputs of a run, which it makes again when it is asked to; report, recipe and log stay.

    Raises:
        InputError: it is no run directory, or a run is at work in it.
    """
    found = removable(path, keep_artifact=keep_artifact)
    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"a run is at work in {path}; wait for it") from error
    try:
        for name in found:
            if (path / name).is_symlink():
                (path / name).unlink()
            else:
                shutil.rmtree(path / name)
    finally:
        lock.release()
    return found


def _finished(path: Path) -> bool:
    """Return whether the report belongs to the last run: a run writes its recipe first, a bench its marker; the report last."""
    pairs = ((path / REPORT, path / "recipe.json"), (path / BENCH_REPORT, path / MARKER))
    return any(report.is_file() and _changed(report) >= _changed(first) for report, first in pairs)


def _locked(path: Path) -> bool:
    if not (path / ".lock").exists():
        return False
    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # not ours to lock
        return False
    lock.release()
    return False


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    if path.is_symlink():
        return 0
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_file() and not one.is_symlink())


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
