"""Reading the latencies that were measured on a board: tables, and what `profile --json` prints."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import host
from edgekd.device.files import refuse_no_file, sha256_of
from edgekd.device.manifest import read_manifest
from edgekd.errors import InputError, device_errors_as
from edgekd.predict.predictor import LONGEST_NAME
from edgekd.target import Target
from edgekd.verbs.artifact_path import artifact_folder, is_artifact

_COLUMNS = ("model", "p50_ms", "family")
_LIKELY_MS = (1e-6, 1e9)


@dataclass(frozen=True)
class MeasuredLatency:
    """One measured latency: the artifact or file, its name, its p50 in ms at batch 1, and the family it belongs to.

    A network without a family is one of its own, with its name; one that is not measured yet has no p50. `made_for` is the
    artifact's runtime. `profile` is what was read beside it, none for a table's row.
    """

    file: Path
    name: str
    p50_ms: float | None
    family: str
    where: str
    made_for: str | None = None
    profile: "Profile | None" = None


@dataclass(frozen=True)
class Profile:
    """How a profile was measured: runtime, threads, and what it says of the machine."""

    runtime: str
    threads: int | None
    architecture: str | None
    board: str | None
    emulated: bool

    def check_target(self, target: Target, where: str) -> None:
        """Refuse a profile of another machine; of a target that no machine is recognized by nothing is known.

        Raises:
            InputError: it was measured elsewhere.
        """
        measured_on = self.board or self.architecture or "an unknown machine"
        if self.emulated:
            raise InputError(f"{where} was measured in an emulation, which has no latency")
        if not (target.architectures or target.board_models):
            return
        if self.architecture not in target.architectures and not host.is_board(target, self.board):
            raise InputError(f"{where} was measured on {measured_on}, which is no {target.name}")


def read_latencies(path: Path) -> list[MeasuredLatency]:
    """Read measured latencies from a CSV, a JSON list, or the output of `profile --json` beside its artifact.

    Raises:
        InputError: it cannot be read, a column is missing or not known, a time is not a positive number, or a profile is of
            another file than the one beside it or of a larger batch.
    """
    with device_errors_as(InputError):
        refuse_no_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from error
    if path.suffix.lower() != ".json":
        return [_latency(path, number, row) for number, row in enumerate(_csv_rows(path, text), start=2)]
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("latency"), dict):
        return [_profiled(path, content)]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InputError(
            f'{path} is neither the output of `profile --json` nor a list of {{"model": ..., "p50_ms": ...}}'
        )
    return [_latency(path, number, row) for number, row in enumerate(content, start=1)]


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True, strict=True)
    try:
        columns, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise InputError(f"{path} is no CSV, line {reader.line_num}: {error}") from error
    wrong = [name for name in columns if name not in _COLUMNS]
    missing = [name for name in _COLUMNS[:2] if name not in columns]
    if wrong or missing:
        said = [f"unknown column {name!r}" for name in wrong] + [f"no column {name!r}" for name in missing]
        raise InputError(
            f"{path}: {'; '.join(said)}; columns are model, p50_ms (in milliseconds) and, if you like, family"
        )
    return rows


def _latency(path: Path, number: int, row: Mapping[Any, Any]) -> MeasuredLatency:
    where = f"{path}, row {number}"
    if None in row:  # where the csv module puts what is left over
        raise InputError(f"{where} has more values than there are columns")
    unknown = [str(name) for name in row if name not in _COLUMNS]
    if unknown:
        raise InputError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(_COLUMNS)}")
    model, family = row.get("model"), row.get("family")
    if not isinstance(model, str) or not model or "\0" in model:
        raise InputError(f"{where}: no model; give the path of its file")
    if family is not None and not (isinstance(family, str) and len(family) <= LONGEST_NAME):
        raise InputError(f"{where}: family must be a name of at most {LONGEST_NAME} characters")
    file = path.parent / model
    name, made_for = _artifact(file)
    given = row.get("p50_ms")
    p50_ms = None if given in (None, "") else _milliseconds(where, given)
    return MeasuredLatency(file, name, p50_ms, family or name, where, made_for)


def _artifact(file: Path) -> tuple[str, str | None]:
    """Return the name of an artifact and its runtime, or the name of a file."""
    if file.is_dir() and is_artifact(file):
        with device_errors_as(InputError):
            manifest = read_manifest(artifact_folder(file))
        return manifest.name[:LONGEST_NAME], manifest.runtime
    return file.stem[:LONGEST_NAME], None


def _milliseconds(where: str, given: Any) -> float:
    try:
        p50 = float(given)
    except (TypeError, ValueError):
        p50 = math.nan
    least, most = _LIKELY_MS
    if not least <= p50 <= most or isinstance(given, bool):
        raise InputError(f"{where}: p50_ms is {given!r}; it must be a positive number of milliseconds")
    return p50


def _profiled(path: Path, content: Mapping[str, Any]) -> MeasuredLatency:
    """Return the p50 of a profile that lies in the folder of its artifact."""
    folder = artifact_folder(path.parent)
    with device_errors_as(InputError):
        manifest = read_manifest(folder)
        sha256 = sha256_of(folder / manifest.model_file)
    artifact, session, before = (_section(path, content, name) for name in ("artifact", "session", "before"))
    if artifact.get("sha256") != sha256:
        raise InputError(f"{path} is a profile of another file than {folder / manifest.model_file}")
    if content.get("batch") != 1:
        raise InputError(f"{path} was measured at batch {content.get('batch')}; predictions are of batch 1")
    name, _ = _artifact(folder)
    threads = str(session.get("threads"))  # a session describes itself in words
    return MeasuredLatency(
        file=folder,
        name=name,
        p50_ms=_milliseconds(str(path), content["latency"].get("p50_ms")),
        family=name,
        where=str(path),
        profile=Profile(
            runtime=str(session.get("runtime")),
            threads=int(threads) if threads.isdecimal() else None,
            architecture=before.get("architecture"),
            board=before.get("board"),
            emulated=bool(before.get("emulated")),
        ),
    )


def _section(path: Path, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name)
    if not isinstance(section, dict):
        raise InputError(f"{path} has no {name}: it is not the whole output of `profile --json`")
    return section
