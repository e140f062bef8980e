import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.gate.baseline import find_entry, read_baseline, update
from edgekd.device.launches.figures import Figure

KEY = {
    "model": "net",
    "target": None,
    "runtime": "onnxruntime",
    "runtime_version": "1.31.1",
    "cpu": "A",
    "threads": 1,
    "container": None,
}
MODEL = {
    "name": "net",
    "precision": "int8",
    "target": None,
    "runtime": "onnxruntime",
    "sha256": "0" * 64,
    "bytes": 100,
    "batch": 1,
}
FIGURES = {"cpu-time": Figure(1.5, 1.4, 1.6, "measured", 6), "size": Figure(100.0, how="counted")}


def test_what_is_written_is_read_and_other_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    update(path, KEY, MODEL, FIGURES)
    update(path, KEY | {"threads": 2}, MODEL, {"cpu-time": Figure(0.8, how="measured")})
    later = FIGURES | {"cpu-time": Figure(1.2, how="measured")}
    update(path, KEY, MODEL, later)
    entries = read_baseline(path)
    assert len(entries) == 2
    assert find_entry(entries, KEY, "f").figures == later
    assert find_entry(entries, KEY | {"threads": 2}, "f").figures["cpu-time"].value == 0.8
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("field", "value"),
    [("cpu", "B"), ("runtime_version", "1.30.0"), ("threads", 4), ("container", "image abc"), ("model", "other")],
)
def test_another_machine_runtime_or_container_is_refused_by_what_differs(
    tmp_path: Path, field: str, value: Any
) -> None:
    path = tmp_path / "figures.json"
    update(path, KEY, MODEL, FIGURES)
    with pytest.raises(DeviceError) as refused:
        find_entry(read_baseline(path), KEY | {field: value}, "figures.json")
    there = "none" if KEY[field] is None else KEY[field]
    assert f"{field} {there} there, {value} here" in str(refused.value) and refused.value.exit_code == 2
    assert str(refused.value).count(" there, ") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is no baseline"),
        ('{"schema": 1}', "is no baseline"),
        ('{"kind": "edgekd baseline", "schema": 2, "entries": []}', "has schema 2, this edgekd reads schema 1"),
        ('{"kind": "edgekd baseline", "schema": 1}', "lacks 'entries'"),
        ('{"kind": "edgekd baseline", "schema": 1, "entries": [{"key": {}}]}', "lacks 'model'"),
    ],
)
def test_a_file_that_is_no_baseline_is_refused_and_kept(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(DeviceError, match=words):
        read_baseline(path)
    with pytest.raises(DeviceError, match=words):
        update(path, KEY, MODEL, FIGURES)
    assert path.read_text() == content


def test_a_missing_file_says_how_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="edgekd baseline update"):
        read_baseline(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"figures": {"speed": {}}}, "figures: unknown figure 'speed'"),
        ({"figures": {"cpu-time": {"value": -1.5}}}, "cpu-time: value must be 0 or more, not -1.5"),
        ({"figures": {"cpu-time": {"value": float("nan")}}}, "cpu-time: value must be a number, not nan"),
        ({"figures": {"cpu-time": {"value": None}}}, "cpu-time: value must be a number, not None"),
        ({"figures": {"cpu-time": {"low": -1.0}}}, "cpu-time: low must be 0 or more"),
        ({"figures": {"cpu-time": {"high": None}}}, "cpu-time: low and high must both be numbers"),
        ({"figures": {"cpu-time": {"low": 1.6, "high": 1.4}}}, "cpu-time: value 1.5 must lie from low 1.6 to high 1.4"),
        ({"figures": {"cpu-time": {"how": None}}}, "cpu-time: how must be a text"),
        ({"model": {"sha256": "abc"}}, "model: sha256 must be 64 lower-case hex digits"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "figures.json"
    update(path, KEY, MODEL, FIGURES)
    content = json.loads(path.read_text())
    for part, fields in change.items():
        for name, value in fields.items():
            known = content["entries"][0][part].get(name)
            content["entries"][0][part][name] = known | value if isinstance(known, dict) else value
    path.write_text(json.dumps(content))
    with pytest.raises(DeviceError) as refused:
        read_baseline(path)
    assert f"{path}: entries[0]: " in str(refused.value) and words in str(refused.value)


def test_updates_at_once_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda threads: update(path, KEY | {"threads": threads}, MODEL, FIGURES), range(1, 17)))
    assert sorted(entry.key["threads"] for entry in read_baseline(path)) == list(range(1, 17))
