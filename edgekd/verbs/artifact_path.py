"""Finding the artifact that a person means: its folder, or the run directory that holds it."""

from pathlib import Path

from edgekd.device.manifest import MANIFEST_NAME
from edgekd.errors import InputError


def is_artifact(path: Path) -> bool:
    """Return whether a path is an artifact folder, or a folder that holds some."""
    return bool(artifact_folders(path))


def artifact_folder(path: Path) -> Path:
    """Return the artifact folder at a path: the folder itself, or the one artifact of a run directory.

    Raises:
        InputError: there is none, or a run holds several.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; name an artifact folder, or the run directory that holds it")
    found = artifact_folders(path)
    if not found:
        raise InputError(
            f"{path} holds no artifact (no {MANIFEST_NAME}); `edgekd compress` or `edgekd export` write one"
        )
    if len(found) > 1:
        raise InputError(f"{path} holds several artifacts, name one: {', '.join(str(one) for one in found)}")
    return found[0]


def artifact_folders(path: Path) -> list[Path]:
    """Return the folder itself, its `artifact/`, or the folders in there that a run for several targets has."""
    for folder in (path, path / "artifact"):
        if (folder / MANIFEST_NAME).is_file():
            return [folder]
    inside = path / "artifact"
    for folder in (inside, path) if inside.is_dir() else (path,):
        several = sorted(one.parent for one in folder.glob(f"*/{MANIFEST_NAME}"))
        if several:
            return several
    return []
