import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.gate.baseline import find_entry, read_baseline, update
from edgekd.device.gate.figures import Figure

KEY = {
    "model": "net",
    "target": None,
    "runtime": "onnxruntime",
    "runtime_version": "1.31.1",
    "cpu": "A",
    "threads": 1,
    "container": None,
}
MODEL = {"name": "net", "sha256": "0" * 64}
FIGURES = {"cpu-time": Figure(1.5, 1.4, 1.6, "measured", 6), "size": Figure(100.0, how="counted")}


def test_what_is_written_is_read_and_other_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    update(path, KEY, MODEL, FIGURES)
    update(path, KEY | {"threads": 2}, MODEL, {"cpu-time": Figure(0.8)})
    update(path, KEY, MODEL, FIGURES | {"cpu-time": Figure(1.2)})
    entries = read_baseline(path)
    assert len(entries) == 2
    assert find_entry(entries, KEY, "f").figures == FIGURES | {"cpu-time": Figure(1.2)}
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


def test_a_figure_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    update(path, KEY, MODEL, FIGURES)
    content = json.loads(path.read_text())
    content["entries"][0]["figures"]["speed"] = content["entries"][0]["figures"].pop("size")
    path.write_text(json.dumps(content))
    with pytest.raises(DeviceError, match="unknown figure 'speed'"):
        read_baseline(path)
