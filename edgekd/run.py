"""A run: a directory with the resolved recipe, one content-addressed output a stage, the log and the report."""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import edgekd
from edgekd import processes
from edgekd.errors import InputError, StageError
from edgekd.files import PARTIAL, digest, folder_in_one_step, remove_partial, sha256, write_json
from edgekd.state import Base, ModelState, load_state, save_state

MARKER = "run.json"
_MADE_AT_ONCE = (MARKER, ".lock", "recipe.json", "log.jsonl", "source", "onnx")  # what a run has before its first stage


@cache
def code_version() -> dict[str, str]:
    """Return what of the software can change a result: the hash of our own code, and the versions of the libraries."""
    from importlib.metadata import version

    package = Path(edgekd.__file__).parent
    sources = {str(path.relative_to(package)): sha256(path) for path in sorted(package.rglob("*.py"))}
    names = ("torch", "torch-pruning", "torchao", "onnx", "onnxscript", "onnxruntime", "numpy")
    return {"edgekd": digest(sources), **{name: version(name) for name in names}}


def stage_key(ingredients: dict[str, Any]) -> str:
    """Return a stage's key: the hash of its ingredients and of the software."""
    return digest({**ingredients, "software": code_version()})


def stage_folder(directory: Path, name: str, key: str) -> Path:
    """Return where a run directory keeps the output of a stage."""
    return directory / "stages" / f"{name}-{key[:16]}"


def onnx_of_stage(folder: Path) -> Path | None:
    """Return the ONNX file of a stored stage, its own or the one written of a network; None where none is written."""
    written = [folder / "model.onnx", *sorted((folder.parent.parent / "onnx").glob(f"{folder.name}-*.onnx"))]
    return next((file for file in written if file.is_file()), None)


class Run:
    """One run directory, locked while it is open. Of several processes the first writes, the others read and train."""

    def __init__(
        self, directory: Path, say: Callable[[str], None], *, resume: bool, explain: Callable[[str], None]
    ) -> None:
        self.directory = directory
        self._say = say
        self._resume = resume
        self._explain = explain

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        directory: Path,
        say: Callable[[str], None],
        *,
        resume: bool = True,
        explain: Callable[[str], None] = lambda reason: None,
    ) -> Iterator["Run"]:
        """Make or open a run directory and lock it.

        Args:
            directory: of the run.
            say: is given each line of the log.
            resume: take what is stored where the same ingredients made it; else everything is made again.
            explain: is told of every stage and figure whether it was reused, and why not.

        Raises:
            InputError: it cannot be written, another run is at work in it, or it is a folder of something else.

        A directory that is new and still holds no work of a stage when the run fails is removed again.
        """
        if not processes.leads():
            processes.wait_for_all()
            yield cls(directory, lambda message: None, resume=resume, explain=lambda reason: None)
            return
        absent = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            strangers = [
                path for path in directory.iterdir() if path.name != ".lock" and not path.name.startswith(PARTIAL)
            ]
            if strangers and not (directory / MARKER).exists():
                raise InputError(f"{directory} is not empty and no run of edgekd; choose another -o")
            lock = FileLock(directory / ".lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise InputError(f"another run is at work in {directory}; wait for it or choose another -o") from error
        except OSError as error:
            raise InputError(f"cannot write to {directory}: {error.strerror or error}") from error
        try:
            if not (directory / MARKER).exists():
                write_json(directory / MARKER, {"schema": 1, "made_by": f"edgekd {edgekd.__version__}"})
            remove_partial(directory)
            processes.wait_for_all()
            yield cls(directory, say, resume=resume, explain=explain)
        except BaseException:
            if absent and not _holds_work(directory):
                shutil.rmtree(directory, ignore_errors=True)
                with contextlib.suppress(OSError):
                    for folder in absent[1:]:
                        folder.rmdir()
            raise
        finally:
            lock.release()

    def describe(self, model: str, structure: str | None, targets: list[str]) -> None:
        """Keep what the run is about, so that an unfinished one can be told apart too.

        `structure` is the hash of the network's layers, None where it is not known: weights may change from run to run.

        Raises:
            InputError: the directory holds the run of another network, and this one is to go on from there.
        """
        if not processes.leads():
            return
        with contextlib.suppress(OSError, ValueError):
            before = json.loads((self.directory / MARKER).read_text(encoding="utf-8"))
            named, kept = before.get("model"), before.get("structure")
            other = named not in (None, model) or (None not in (kept, structure) and kept != structure)
            if other and self._resume:
                raise InputError(
                    f"{self.directory} holds the run of another network{'' if named == model else f', {named}'}; choose another "
                    "-o, or --no-resume to overwrite it"
                )
        made_by = f"edgekd {edgekd.__version__}"
        content = {"schema": 1, "made_by": made_by, "model": model, "structure": structure, "targets": targets}
        write_json(self.directory / MARKER, content)

    def log(self, message: str) -> None:
        """Show a line and keep it, with its time, in `log.jsonl`."""
        if not processes.leads():
            return
        self._say(message)
        with (self.directory / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "message": message}) + "\n")

    def stage(
        self,
        name: str,
        ingredients: dict[str, Any],
        base: Base | None,
        make: Callable[[Path], ModelState],
        *,
        together: bool = False,
    ) -> tuple[ModelState, str]:
        """Return a stage's output and its key: the stored one if these very ingredients made it, else a new one.

        `make` gets an empty working folder and leaves the state in memory; it is written in one step. The key is the
        hash of the ingredients and of the software. Of several processes the first alone makes it, or all `together`.
        """
        key, ingredients = stage_key(ingredients), {**ingredients, "software": code_version()}
        folder = stage_folder(self.directory, name, key)
        state = self._stored(folder, name, ingredients, base) if processes.leads() else None
        if processes.said_by_leader(state is not None):
            return state or load_state(folder, base), key
        if processes.leads():
            self._make(folder, ingredients, make)
        elif together:
            with tempfile.TemporaryDirectory() as workdir:
                make(Path(workdir))
        processes.wait_for_all()
        return load_state(folder, base), key

    def _stored(self, folder: Path, name: str, ingredients: dict[str, Any], base: Base | None) -> ModelState | None:
        """Return what is stored of a stage, or None; say why."""
        if not folder.exists() or not self._resume:
            reason = self._difference(name, ingredients) if self._resume else "asked not to resume"
            self._explain(f"{name}: made: {reason}")
            return None
        try:
            state = load_state(folder, base)
        except StageError as error:
            self._explain(f"{name}: made again: {error}")
            self.log(f"{name}: the stored output is damaged and is made again ({error})")
            return None
        self._explain(f"{name}: reused {folder.name}: same {', '.join(ingredients)}")
        return state

    def _make(self, folder: Path, ingredients: dict[str, Any], make: Callable[[Path], ModelState]) -> None:
        """Make a stage's output and store it in one step."""
        if folder.exists():
            shutil.rmtree(folder)
        workdir = self.directory / "stages" / f".partial-work-{os.getpid()}"
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir(parents=True)
        try:
            state = make(workdir)
            with folder_in_one_step(folder) as partial:
                save_state(state, partial)
                write_json(partial / "ingredients.json", ingredients)
        finally:
            shutil.rmtree(workdir, ignore_errors=True)

    def _difference(self, name: str, ingredients: dict[str, Any]) -> str:
        """Say which ingredient differs from the stored outputs of this stage."""
        reasons = []
        for path in sorted((self.directory / "stages").glob(f"{name}-*/ingredients.json")):
            with contextlib.suppress(OSError, ValueError):
                stored = json.loads(path.read_text(encoding="utf-8"))
                changed = [part for part, value in ingredients.items() if digest(stored.get(part)) != digest(value)]
                reasons.append(f"{path.parent.name} has other {', '.join(changed)}")
        return "; ".join(reasons) or "nothing stored"

    def remembered(self, name: str, ingredients: dict[str, Any], make: Callable[[], Any]) -> Any:
        """Return a JSON value that was computed from these very ingredients, or compute and keep it, with its time."""
        key = digest({**ingredients, "software": code_version()})
        path = self.directory / "figures" / f"{name}-{key[:16]}.json"
        if self._resume:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                kept = json.loads(path.read_text(encoding="utf-8"))
                value = kept["value"]
                self._explain(f"{name}: reused {path.name} of {kept['time']}: same {', '.join(ingredients)}")
                return value
        self._explain(f"{name}: obtained: {'nothing stored' if self._resume else 'asked not to resume'}")
        value = make()
        write_json(path, {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "value": value})
        return value


def _holds_work(directory: Path) -> bool:
    """Return whether a run can go on from a directory: it has more than what every run begins with."""
    stages = (path for path in directory.glob("stages/*") if not path.name.startswith(("baseline-", PARTIAL)))
    others = (path for path in directory.iterdir() if path.name not in (*_MADE_AT_ONCE, "stages"))
    found = (path for path in others if path.is_file() or any(path.iterdir()))
    return any(True for _ in stages) or any(not path.name.startswith(PARTIAL) for path in found)


def find_runs(folder: Path) -> list[Path]:
    """Return the run directories in a folder and one level below, the newest first."""
    found = [path.parent for pattern in (MARKER, f"*/{MARKER}") for path in folder.glob(pattern)]
    return sorted(found, key=lambda path: (path / MARKER).stat().st_mtime, reverse=True)
