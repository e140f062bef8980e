import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch

from .conftest import Cli

SHORT = ("--duration", "0.2", "--launches", "1", "--confirm", "0")
SCHEMA = Path(__file__).parents[2] / "docs/gate.schema.json"


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(variable, raising=False)


def test_a_run_within_its_budget(cli: Cli, quantized: Path, tmp_path: Path) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text('latency-p50 = "10s"\nsize = "1MB"\nmemory = "4GB"\n')
    outcome = cli("gate", quantized, "--budget", budget, "--budget", "accuracy-drop=100%", *SHORT)
    assert outcome.code == 0, outcome.out + outcome.err
    assert "PASS: 4 of 4 checks passed" in outcome.out and "\x1b" not in outcome.out


def test_a_missed_budget_in_json_and_its_schema(cli: Cli, quantized: Path) -> None:
    outcome = cli(
        "gate", quantized, "--budget", "size=1kB", "--budget", "latency-min=1us", "--json", "--github", *SHORT
    )
    found = json.loads(outcome.out)
    assert outcome.code == found["exit_code"] == 1 and found["schema"] == 1
    assert {check["figure"]: check["outcome"] for check in found["checks"]} == {"size": "fail", "latency-min": "fail"}
    assert outcome.err.count("::error title=") == 2
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("latency-p97=20ms", "unknown figure 'latency-p97', did you mean 'latency-p9"),
        ("latency-p95=20mz", "unknown unit 'mz'"),
        ("latency-p95=20", "lacks its unit"),
        ("none.toml", "no such file"),
    ],
)
def test_a_budget_that_cannot_be_read(cli: Cli, exported: Path, budget: str, words: str) -> None:
    outcome = cli("gate", exported, "--budget", budget, *SHORT)
    assert outcome.code == 2 and words in outcome.err and outcome.err.count("\n") == 1


def test_a_meter_without_a_file_and_a_baseline_that_is_none_are_bad_usage(
    cli: Cli, exported: Path, tmp_path: Path
) -> None:
    outcome = cli("gate", exported, "--budget", "energy=1J", "--sensor", "meter:", *SHORT)
    assert outcome.code == 2 and "names no file" in outcome.err
    os.mkfifo(tmp_path / "pipe.json")
    outcome = cli("gate", exported, "--baseline", tmp_path / "pipe.json", *SHORT)
    assert outcome.code == 2 and "it is no file" in outcome.err


def test_a_reader_that_goes_away_changes_no_verdict(exported: Path, tmp_path: Path) -> None:
    for start in ("-m edgekd gate .", "artifact/run.pyz gate"):
        report = tmp_path / f"{len(start)}.xml"
        line = f"{sys.executable} {start} --budget size=1B --json --junit {report} {' '.join(SHORT)} | true; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(line, shell=True, executable="/bin/bash", cwd=exported, capture_output=True, text=True)
        assert done.returncode == 1 and 'failures="1"' in report.read_text(), done.stderr


def test_figures_of_another_input_shape_are_not_compared(cli: Cli, tmp_path: Path) -> None:
    network = torch.nn.Conv2d(3, 4, 3).eval()
    size = torch.export.Dim("size", min=4, max=512)
    free = ({2: size, 3: size},)
    torch.onnx.export(
        network,
        (torch.rand(1, 3, 32, 32),),
        tmp_path / "free.onnx",
        input_names=["x"],
        dynamic_shapes=free,
        verbose=False,
    )
    measured = ("--shape", "x=1x3x32x32", *SHORT[:4])
    assert cli("baseline", "update", tmp_path / "free.onnx", "-o", tmp_path / "b.json", *measured).code == 0
    outcome = cli("gate", tmp_path / "free.onnx", "--baseline", tmp_path / "b.json", "--shape", "x=1x3x8x8", *SHORT)
    assert outcome.code == 2 and "shapes x 1x3x32x32 there, x 1x3x8x8 here" in outcome.err


def test_a_budget_without_a_figure_never_passes(cli: Cli, exported: Path, tmp_path: Path) -> None:
    outcome = cli(
        "gate", exported, "--budget", "energy=1J", "--sensor", "none", "--junit", tmp_path / "gate.xml", *SHORT
    )
    assert outcome.code == 3 and "energy: not asked for" in outcome.out
    assert "UNDECIDED (not measured): 0 of 1" in outcome.out and 'errors="1"' in (tmp_path / "gate.xml").read_text()
    outcome = cli("gate", exported, "--budget", "latency-p99=1s", "--duration", "0.001", *SHORT[2:])
    assert outcome.code == 3 and "p99 needs 662 calls" in outcome.out
    outcome = cli("gate", exported / "artifact/model.onnx", "--budget", "accuracy-drop=1%", *SHORT)
    assert outcome.code == 3 and "report.json" in outcome.out


def test_a_sensor_that_may_not_be_read_is_a_figure_that_is_not_measured(
    cli: Cli, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekd.device.sensors import _FINDERS

    denied = "/sys/class/powercap/intel-rapl:0/energy_uj: Permission denied"
    monkeypatch.setitem(_FINDERS, "rapl", lambda: denied)
    outcome = cli("gate", exported, "--budget", "energy=1J", "--sensor", "rapl", *SHORT)
    assert outcome.code == 3 and denied in outcome.out
    outcome = cli("gate", exported, "--budget", "energy=1J", "--sensor", "rapp", *SHORT)
    assert outcome.code == 2 and "did you mean 'rapl'" in outcome.err


def test_accuracy_stands_in_the_report(cli: Cli, quantized: Path, exported: Path, tmp_path: Path) -> None:
    report = json.loads((quantized / "report.json").read_text())
    drop = report["stages"][0]["figures"]["score"]["value"] - report["final"]["figures"]["score"]["value"]
    outcome = cli("gate", quantized, "--budget", "accuracy-drop=100%", "--json", *SHORT)
    assert json.loads(outcome.out)["checks"][0]["value"]["value"] == pytest.approx(drop)
    folder = quantized / "artifact"
    named = cli("gate", folder, "--budget", "accuracy-drop=100%", "--report", quantized / "report.json", *SHORT)
    assert named.code == 0
    other = cli("gate", folder, "--budget", "accuracy-drop=100%", "--report", exported / "report.json", *SHORT)
    assert other.code == 3 and "about another model file" in other.out
    report["artifact"]["old.onnx"] = {"sha256": "0" * 64}
    del report["artifact"]["model.onnx"]
    (tmp_path / "renamed.json").write_text(json.dumps(report))
    renamed = cli("gate", folder, "--budget", "accuracy-drop=100%", "--report", tmp_path / "renamed.json", *SHORT)
    assert renamed.code == 3 and "about another model file" in renamed.out
    wrong = cli("gate", folder, "--budget", "accuracy-drop=100%", "--report", folder / "manifest.json", *SHORT)
    assert wrong.code == 2 and "no report.json of a run" in wrong.err and "Error" not in wrong.err


def test_what_is_refused_is_an_error_in_the_reports_too(cli: Cli, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_text('size = "1MB"\n[regression]\ncpu-time = 3\n')
    report = tmp_path / "gate.xml"
    outcome = cli("gate", exported, "--budget", tmp_path / "budget.toml", "--junit", report, "--github", *SHORT)
    assert outcome.code == 2 and "[regression]" in outcome.err and "--baseline" in outcome.err
    assert outcome.out.startswith("::error title=edgekd gate::[regression]") and 'errors="1"' in report.read_text()


def test_against_the_older_artifact_in_turns(cli: Cli, quantized: Path, exported: Path) -> None:
    outcome = cli("gate", exported, "--baseline", quantized, "--json", *SHORT)
    found = json.loads(outcome.out)
    size = next(check for check in found["checks"] if check["figure"] == "size")
    assert outcome.code == 1 and size["outcome"] == "fail"
    assert found["baseline"]["kind"] == "artifact" and found["rounds"][0]["launches"][0]["ratios"]["latency-min"] > 0
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_a_baseline_is_its_own_act(cli: Cli, quantized: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    missing = cli("gate", quantized, "--baseline", figures, *SHORT)
    assert missing.code == 2 and "edgekd baseline update" in missing.err and not figures.exists()
    made = cli(
        "baseline", "update", quantized, "-o", figures, "--duration", "0.3", "--launches", "2", "--sensor", "none"
    )
    assert made.code == 0 and "written to" in made.out, made.err
    assert cli("baseline", "update", quantized, "-o", figures, "--batch", "2", *SHORT[:4]).code == 0
    before = figures.read_bytes()
    assert len(json.loads(before)["entries"]) == 2
    outcome = cli("gate", quantized, "--baseline", figures, "--json", *SHORT)
    assert json.loads(outcome.out)["baseline"]["key"]["batch"] == 1
    other = cli("gate", quantized, "--baseline", figures, "--batch", "3", *SHORT)
    assert other.code == 2 and "batch 1 there, 3 here" in other.err
    content = json.loads(before)
    figures.write_text(json.dumps(content | {"schema": 2}))
    refused = cli("gate", quantized, "--baseline", figures, *SHORT)
    assert refused.code == 2 and "has schema 2, this edgekd reads schema 1" in refused.err
    assert cli("baseline", "update", quantized, "-o", figures, *SHORT[:4]).code == 2


def test_a_folder_that_is_not_there_is_named_before_anything_is_measured(
    cli: Cli, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekd.device.launches import launcher

    monkeypatch.setattr(launcher, "start", None)
    for option in ("--junit", "--gitlab-metrics", "--benchmark-json"):
        outcome = cli("gate", exported, "--budget", "latency-p50=1s", option, "none/report")
        assert outcome.code == 2 and "none" in outcome.err
    assert cli("baseline", "update", exported, "-o", "none/figures.json").code == 2


def test_what_cannot_be_gated(cli: Cli, model: Path, exported: Path, tmp_path: Path) -> None:
    for path, words in (
        (model, "edgekd export"),
        (tmp_path / "none", "does not exist"),
        (tmp_path, "holds no artifact"),
    ):
        outcome = cli("gate", path, "--budget", "size=1MB", *SHORT)
        assert outcome.code == 2 and words in outcome.err
    outcome = cli("gate", exported, *SHORT)
    assert outcome.code == 2 and "nothing to check" in outcome.err
    outcome = cli("gate", exported, "--budget", "latency-p50=1s", "--runtime", "onnxruntim", *SHORT)
    assert outcome.code == 2 and "unknown runtime 'onnxruntim'; known: onnxruntime" in outcome.err
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes((exported / "artifact/model.onnx").read_bytes()[:5000])
    outcome = cli("gate", damaged, "--budget", "latency-p50=1s", *SHORT)
    assert outcome.code == 2 and "model.onnx" in outcome.err
