"""The stored baseline: figures of an earlier version, for one machine, runtime, number of threads, batch and container.

`edgekd baseline update` alone writes the file; it holds one entry a key, and an update replaces its own entry only.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import fields
from ..errors import DeviceError
from ..fields import Fields
from ..files import locked, read_json, write_atomically
from ..launches.figures import Figure
from ..launches.subject import Subject
from .figures import KINDS

SCHEMA = 1
KIND = "edgekd baseline"
_ABOUT = ("model", "target")


@dataclass(frozen=True)
class Entry:
    """Figures with their key, the model file that they are of, and when they were measured."""

    key: dict[str, Any]
    model: dict[str, Any]
    updated_utc: str
    figures: dict[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        figures = {name: figure.to_dict() for name, figure in self.figures.items()}
        return {"key": self.key, "model": self.model, "updated_utc": self.updated_utc, "figures": figures}


def key_of(subject: Subject, launch: Mapping[str, Any], threads: int, container: str | None) -> dict[str, Any]:
    """Return what must be the same for two figures to be compared; not the model's hash, which may differ.

    Args:
        subject: What was launched.
        launch: The result of one launch.
        threads: Of the runtime.
        container: As `container.container` tells it.
    """
    session, machine = launch["models"]["candidate"]["session"], launch["machine"]
    return {
        "model": subject.name,
        "target": subject.target,
        "runtime": session["runtime"],
        "runtime_version": session["version"],
        "cpu": machine["board"] or machine["cpu_model"],
        "architecture": machine["architecture"],
        "instruction_sets": " ".join(machine["instruction_sets"]),
        "int8_isa": machine["int8_isa"],
        "emulated": machine["emulated"],
        "threads": threads,
        "batch": subject.batch,
        "shapes": " ".join(f"{name} {'x'.join(map(str, one.shape))}" for name, one in sorted(subject.feeds.items())),
        "container": container,
    }


def read_baseline(path: Path) -> list[Entry]:
    """Return the entries of a file.

    Raises:
        DeviceError: It is missing, damaged, of another schema, or no baseline; or a figure in it cannot be.
    """
    advice = f"write one with: edgekd baseline update ARTIFACT -o {path}"
    content = read_json(path, f"{path} does not exist; {advice}")
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise DeviceError(f"{path} is no baseline; {advice}")
    if content.get("schema") != SCHEMA:
        raise DeviceError(f"{path} has schema {content.get('schema')!r}, this edgekd reads schema {SCHEMA}; {advice}")
    left = Fields(content, str(path))
    left.take("kind", fields.text)
    left.take("schema", fields.count)
    entries = left.take("entries", fields.list_of(_entry))
    left.finish()
    return list(entries)


def find_entry(entries: list[Entry], key: Mapping[str, Any], where: str) -> Entry:
    """Return the entry of this key.

    Raises:
        DeviceError: There is none; the message names what differs from the nearest one.
    """
    for entry in entries:
        if entry.key == key:
            return entry
    nearest = max(entries, key=lambda entry: _alike(entry.key, key))
    differing = [name for name in {**key, **nearest.key} if nearest.key.get(name) != key.get(name)]
    differences = "; ".join(
        f"{name} {_shown(nearest.key.get(name))} there, {_shown(key.get(name))} here" for name in differing
    )
    raise DeviceError(
        f"{where} holds no baseline for this: {differences}. Figures compare on the same machine, runtime, threads and container only: "
        "write one here with edgekd baseline update, or give the older artifact itself as --baseline"
    )


def update(path: Path, key: dict[str, Any], model: dict[str, Any], figures: Mapping[str, Figure]) -> Entry:
    """Write figures into a file, atomically; an entry of the same key is replaced, others stay.

    Raises:
        DeviceError: The file cannot be written, or holds something else than a baseline.
    """
    entry = Entry(key, model, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), dict(figures))
    with locked(path):  # two updates of one file lose no entry
        others = [one for one in read_baseline(path) if one.key != key] if path.exists() else []
        content = {"kind": KIND, "schema": SCHEMA, "entries": [one.to_dict() for one in (*others, entry)]}
        write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))
    return entry


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[bool, int]:
    same = [name for name in other if one.get(name) == other[name]]
    return all(name in same for name in _ABOUT), len(same)


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _entry(value: Any, where: str) -> Entry:
    left = Fields(value, where)
    entry = Entry(
        key=dict(left.take("key", fields.mapping)),
        model=left.take("model", _model),
        updated_utc=left.take("updated_utc", fields.text),
        figures=left.take("figures", _figures),
    )
    left.finish()
    return entry


def _model(value: Any, where: str) -> dict[str, Any]:
    left = Fields(value, where)
    checks = {
        **dict.fromkeys(("name", "precision", "runtime"), fields.text),
        "target": fields.optional(fields.text),
        "sha256": fields.sha256,
        **dict.fromkeys(("bytes", "batch"), fields.count),
    }
    model = {name: left.take(name, check) for name, check in checks.items()}
    left.finish()
    return model


def _figures(value: Any, where: str) -> dict[str, Figure]:
    found = {}
    for name, content in fields.mapping(value, where).items():
        if name not in KINDS:
            raise DeviceError(f"{where}: unknown figure {name!r}; known: {', '.join(KINDS)}")
        found[name] = _figure(content, f"{where}.{name}")
    return found


def _figure(content: Any, where: str) -> Figure:
    left = Fields(content, where)
    value = left.take("value", fields.amount)
    low, high = (left.take(end, fields.optional(fields.amount)) for end in ("low", "high"))
    if (low is None) != (high is None):
        raise DeviceError(f"{where}: low and high must both be numbers, or both null")
    if low is not None and high is not None and not low <= value <= high:
        raise DeviceError(f"{where}: value {value:g} must lie from low {low:g} to high {high:g}")
    how, samples = left.take("how", fields.text), left.take("samples", fields.optional(fields.count))
    figure = Figure(value, low, high, how, samples, left.take("reason", fields.optional(fields.text)))
    left.finish()
    return figure
