import json
import platform
from pathlib import Path

import pytest

import edgekd
from edgekd.budget import Budget, judge
from edgekd.cli.compress import execute_and_show
from edgekd.device.errors import DeviceError, RuntimeMissing
from edgekd.figures import Figure
from edgekd.verbs.compress import Result

from .conftest import Cli


def test_json_is_all_there_is_on_stdout(cli: Cli, model: Path, exported: Path) -> None:
    outcome = cli("compress", model, "-t", "raspberry-pi-5", "-o", exported, "--recipe", "export", "--json")
    assert outcome.code == 0
    report = json.loads(outcome.out)
    assert report["target"] == "raspberry-pi-5" and report == json.loads((exported / "report.json").read_text())


def test_explain_cache_says_what_was_reused(cli: Cli, model: Path, exported: Path) -> None:
    outcome = cli("export", model, "-t", "raspberry-pi-5", "-o", exported, "--include-samples", "--explain-cache")
    assert "baseline: reused" in outcome.err and outcome.err.endswith(f"as a page: edgekd report {exported}\n")


def test_the_verdict_is_the_exit_code(cli: Cli, model: Path, exported: Path) -> None:
    def budget(*options: str) -> tuple[int, str]:
        outcome = cli("compress", model, "-t", "raspberry-pi-5", "-o", exported, "--recipe", "export", *options)
        return outcome.code, outcome.out

    code, out = budget("--size", "1000")
    assert code == 0 and "budget size_kb <= 1000" in out and "pass" in out
    code, out = budget("--size", "1")
    assert code == 1 and "fail" in out
    code, out = budget("--latency", "1000")
    assert code == 3 and "not measured" in out


@pytest.mark.parametrize(("error", "code"), [(DeviceError, 3), (RuntimeMissing, 4)])
def test_a_runtime_that_fails_in_a_stage_is_an_error_of_ours(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], code: int
) -> None:
    def fail(*_: object) -> None:
        raise error("the runtime's words")

    monkeypatch.setattr("edgekd.evaluate.open_session", fail)
    with pytest.raises(edgekd.EdgekdError, match="the runtime's words"):
        edgekd.compress(model, "raspberry-pi-5", output=Path("one"), recipe="export")
    outcome = cli("export", model, "-t", "raspberry-pi-5", "-o", "two")
    assert outcome.code == code and outcome.err.endswith("edgekd: the runtime's words\n")


def test_a_figure_that_is_not_distinguishable_from_its_limit_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = judge(Budget(latency_ms=1.0), {"latency_ms": Figure("ms", 1.0, "measured", "here", 0.9, 1.1)})
    monkeypatch.setattr("edgekd.request.prepare", lambda request: None)
    result = Result(Path("artifact"), {"schema": 1}, tuple(verdicts))
    monkeypatch.setattr("edgekd.verbs.compress.execute", lambda prepared: [result])
    assert execute_and_show(None, as_json=True) == 3
    assert json.loads(capsys.readouterr().out) == {"schema": 1}


def test_what_is_wrong_is_said_before_any_work(cli: Cli, model: Path) -> None:
    for options, words in (
        (("-t", "rasberry-pi-5"), "nearest: raspberry-pi-5"),
        (("-t", "imx500"), "not there yet"),
        (("-t", "raspberry-pi-5", "--recipe", "prune"), "cannot read the recipe 'prune'"),
        (("-t", "raspberry-pi-5", "--runtime", "tensorrt"), "it has onnxruntime"),
        (("-t", "raspberry-pi-5", "--data", "fashon-mnist"), "nearest set: fashion-mnist"),
        (("-t", "raspberry-pi-5", "--metric", "goodness"), "unknown metric"),
    ):
        outcome = cli("compress", model, *options)
        assert outcome.code == 2 and not outcome.out
        assert words in outcome.err and outcome.err.count("\n") == 1
    assert not Path("edgekd-runs").exists()


def test_a_folder_of_something_else_is_left_alone(cli: Cli, model: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    outcome = cli("export", model, "-t", "raspberry-pi-5", "-o", "mine")
    assert outcome.code == 2 and "no run of edgekd" in outcome.err
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="generic-x86 is another machine")
def test_memory_and_energy_are_those_of_the_artifact_where_this_machine_is_the_target(
    cli: Cli, model: Path, tmp_path: Path
) -> None:
    export = ("compress", model, "-t", "generic-x86", "--recipe", "export", "-o", tmp_path / "run")
    missed = cli(*export, "--memory", "10")
    assert missed.code == 1 and "budget memory_mb <= 10" in missed.out
    figures = json.loads((tmp_path / "run/report.json").read_text())["on_target"]
    assert 20 < figures["memory_mb"]["value"] < 250 and figures["memory_mb"]["how"] == "measured"
    if figures["energy_mj"]["value"] is None:
        assert cli(*export, "--energy", "1").code == 3
    again = cli(*export, "--memory", "1000", "--explain-cache")
    assert again.code == 0 and "cost: reused" in again.err
