import importlib
import json
from pathlib import Path

import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.gate.budget import read_budget

TOML = 'latency-p95 = "20ms"\nsize = "2MB"\ninstructions = 3000000\n[regression]\ncpu-time = 3\nlatency-min = "7.5%"\n'


def test_files_and_pairs_make_one_budget_and_the_later_limit_holds(tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_text(TOML)
    budget = read_budget([str(tmp_path / "budget.toml"), "latency-p95=30ms", "energy=50mJ"])
    assert budget.limits == {"latency-p95": 30.0, "size": 2e6, "instructions": 3e6, "energy": 50.0}
    assert budget.thresholds == {"cpu-time": 3.0, "latency-min": 7.5}


def test_json_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "budget.json").write_text(json.dumps({"size": "2MB", "regression": {"cpu-time": 3}}))
    budget = read_budget([str(tmp_path / "budget.json")])
    assert budget.limits == {"size": 2e6} and budget.thresholds == {"cpu-time": 3.0}


def test_a_python_without_toml_asks_for_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "budget.toml").write_text(TOML)
    real = importlib.import_module

    def without_tomllib(name: str, package: str | None = None) -> object:
        if name == "tomllib":
            raise ModuleNotFoundError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without_tomllib)
    with pytest.raises(DeviceError, match=r"budget\.toml: .* write the budget as a \.json file"):
        read_budget([str(tmp_path / "budget.toml")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('latency-p97 = "20ms"', "unknown figure 'latency-p97', did you mean 'latency-p9"),
        ('latency = "20ms"', "known: latency-min, latency-p50"),
        ('latency-p95 = "20mz"', "latency-p95: unknown unit 'mz'"),
        ("latency-p95 = 20", "lacks its unit"),
        ("latency-p95", "is not valid TOML"),
        ('[regression]\nlatency-p97 = "5"', "[regression]: unknown figure"),
        ("[regression]\ncpu-time = 0", "no percentage above 0"),
        ('[regression]\ncpu-time = "5ms"', "no percentage above 0"),
        (f'[regression]\ncpu-time = "{"9" * 400}"', "no percentage above 0"),
        ("[regression]\naccuracy-drop = 1", "a difference already"),
        ("regression = 5", "must be a table"),
        ("[more]\nsize = 1", "unknown figure 'more'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "budget.toml"
    path.write_text(content)
    with pytest.raises(DeviceError) as refused:
        read_budget([str(path)])
    assert words in str(refused.value) and "budget.toml" in str(refused.value)


@pytest.mark.parametrize("source", ["none.toml", "latency-p95:20ms"])
def test_a_missing_file_is_told_how_a_limit_is_written(source: str) -> None:
    with pytest.raises(DeviceError, match="latency-p95=20ms"):
        read_budget([source])


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DeviceError, match="cannot read"):
        read_budget([str(tmp_path / "budget.toml")])
