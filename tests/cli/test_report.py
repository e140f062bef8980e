import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from .conftest import Cli

EMBEDDED = re.compile(r'<script type="application/json" id="edgekd-report">(.*?)</script>', re.DOTALL)


def test_a_run_becomes_a_page_that_holds_what_it_was_made_of(cli: Cli, quantized: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    outcome = cli("report", quantized, "-o", page, "--json")
    assert outcome.code == 0, outcome.err
    content = json.loads(outcome.out)
    html = page.read_text(encoding="utf-8")
    (embedded,) = EMBEDDED.findall(html)
    assert json.loads(embedded) == content
    (target,) = content["targets"]
    assert target["report"] == json.loads((quantized / "report.json").read_text())
    nodes = target["layers"]["times"]["nodes"]
    assert sum(one["time_us"] for one in nodes) == pytest.approx(target["layers"]["times"]["total_us"])
    assert f'<data value="{nodes[0]["time_us"]}">' in html
    assert [one["stage"] for one in target["files"]] == ["baseline", "quantize", "exported"]
    sizes = [{(part["dtype"], part["layer"] is None) for part in one["weights"]} for one in target["files"]]
    assert ("int8", False) in sizes[1] - sizes[0] and sizes[1] == sizes[2]
    assert target["files"][2]["bytes"] == target["report"]["artifact"]["model.onnx"]["bytes"]


def test_a_model_that_takes_too_long_leaves_the_page_without_its_layers(
    cli: Cli, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.device.launches.settings._PATIENCE_S", 0.01)
    monkeypatch.setattr("edgekd.device.launches.settings._PATIENCE", 0.01)
    outcome = cli("report", quantized, "-o", tmp_path / "page.html", "--json")
    assert outcome.code == 0, outcome.err
    layers = json.loads(outcome.out)["targets"][0]["layers"]
    assert layers["times"] is None and "did not come to an end within 0.011 s" in layers["absent"]


def test_the_page_stands_in_the_run_by_default_and_a_cleaned_run_has_one(
    cli: Cli, quantized: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(quantized, run)
    assert cli("runs", "clean", run, "--remove-artifact", "--yes").code == 0
    outcome = cli("report", run)
    assert outcome.code == 0 and outcome.out == f"{run / 'report.html'}\n"
    html = (run / "report.html").read_text(encoding="utf-8")
    assert (
        "its file is no longer in the run" in html
        and "the artifact that the report speaks of is no longer in the run" in html
    )


def test_nothing_but_a_page_is_overwritten(cli: Cli, quantized: Path) -> None:
    before = {path: path.read_bytes() for path in quantized.rglob("*") if path.is_file()}
    Path("notes.json").write_text("{}", encoding="utf-8")
    Path("empty.html").touch()
    for place, words in (
        (quantized / "report.json", "report.json exists and is no HTML page"),
        (quantized / "artifact/model.onnx", "model.onnx exists and is no HTML page"),
        (quantized / "artifact/page.html", "page.html would go to the device with the artifact in"),
        (quantized / "artifact/new/page.html", "page.html would go to the device with the artifact in"),
        (quantized / "run.json/page.html", "run.json is no folder"),
        ("notes.json", "notes.json exists and is no HTML page"),
        ("/dev/null", "no file that can be overwritten"),
        ("/proc/page.html", "edgekd: /proc/page.html: "),
    ):
        outcome = cli("report", quantized, "--no-layers", "-o", place)
        assert outcome.code == 2 and words in outcome.err and outcome.err.count("\n") == 1, (place, outcome.err)
    assert {path: path.read_bytes() for path in before} == before and Path("notes.json").read_text() == "{}"
    for _ in range(2):
        assert cli("report", quantized, "--no-layers", "-o", "empty.html").code == 0


def test_profile_and_diagnosis_of_the_run_are_taken_in(cli: Cli, quantized: Path, model: Path) -> None:
    for name, arguments in {
        "profile.json": ("profile", quantized, "--duration", "0.1s", "--sensor", "none", "--layers"),
        "diagnosis.json": ("diagnose", quantized, "--samples", "20"),
        "groups.json": ("inspect", model, "--sensitivity", "--samples", "20", "-t", "generic-x86"),
    }.items():
        outcome = cli(*arguments, "--json")
        assert outcome.code == 0, outcome.err
        Path(name).write_text(outcome.out, encoding="utf-8")
    evidence = [word for name in ("profile.json", "diagnosis.json", "groups.json") for word in ("--with", name)]
    outcome = cli("report", quantized, *evidence, "-o", "page.html", "--json")
    assert outcome.code == 0, outcome.err
    (target,) = json.loads(outcome.out)["targets"]
    profile, diagnosis = (json.loads(Path(name).read_text()) for name in ("profile.json", "diagnosis.json"))
    assert target["profiles"][0]["latency"]["p50_ms"] == profile["latency"]["p50_ms"]
    assert target["layers"]["times"]["total_us"] == profile["layers"]["total_us"]
    assert [one["noise"] for one in target["diagnosis"]["layers"]] == [one["noise"] for one in diagnosis["layers"]]
    html = Path("page.html").read_text(encoding="utf-8")
    for value in (profile["latency"]["p50_ms"], diagnosis["layers"][0]["noise"]):
        assert f'<data value="{value}">' in html
    assert (
        target["sensitivity"]["sensitivity"]["groups"]
        and "No group of channels of model.pt can be cut in multiples" in html
    )


def test_evidence_about_another_model_is_refused(cli: Cli, quantized: Path, exported: Path) -> None:
    found = json.loads(cli("profile", exported, "--duration", "0.1s", "--sensor", "none", "--json").out)
    beside = json.loads((quantized / "report.json").read_text())["artifact"]["run.pyz"]["sha256"]
    for digest in (found["artifact"]["sha256"], beside):
        found["artifact"]["sha256"] = digest
        Path("profile.json").write_text(json.dumps(found), encoding="utf-8")
        outcome = cli("report", quantized, "--with", "profile.json", "-o", "page.html")
        assert outcome.code == 2 and "profile.json is about another model" in outcome.err
    assert not Path("page.html").exists()


def test_what_is_no_finished_run_is_refused_in_one_line(cli: Cli, quantized: Path) -> None:
    report = json.loads((quantized / "report.json").read_text())
    for folder in ("interrupted", "bench", "something", "damaged", "other", "half"):
        Path(folder).mkdir()
    Path("interrupted/run.json").write_text('{"schema": 1, "model": "m", "targets": ["raspberry-pi-5"]}')
    Path("bench/bench.json").write_text("{}")
    Path("damaged/report.json").write_text(json.dumps({**report, "metric": {"name": 3}}))
    Path("other/report.json").write_text(json.dumps({**report, "schema": 2}))
    Path("half/report.json").write_text('{"schema": 1, "model": "\\ud800"}')
    Path("diagnosis.json").write_text('{"schema": 1}')
    os.mkfifo("fifo")
    with Path("large.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    for arguments, words in (
        (("nowhere",), "does not exist"),
        (("interrupted",), "the run has not finished"),
        (("bench",), "the run of a bench"),
        (("something",), "no run directory"),
        ((quantized / "artifact",), "an artifact folder; name the run directory"),
        (("diagnosis.json",), "behind --with"),
        (("damaged",), "metric.name"),
        (("other",), "schema"),
        (("half",), "is no JSON"),
        ((quantized, "--with", "diagnosis.json"), "none of what a report can take in"),
        ((quantized, "--with", "nothing.json"), "cannot read nothing.json"),
        ((quantized, "--with", "fifo"), "fifo: it is no regular file"),
        ((quantized, "--with", "/dev/zero"), "/dev/zero: it is no regular file"),
        ((quantized, "--with", "large.json"), "large.json has more than 64 MiB"),
    ):
        outcome = cli("report", *arguments)
        assert outcome.code == 2 and words in outcome.err and outcome.err.count("\n") == 1, (arguments, outcome.err)


@pytest.mark.parametrize("library", ["altair", "vl_convert"])
def test_a_missing_library_gives_the_line_that_installs_it(
    cli: Cli, quantized: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("edgekd.report.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    outcome = cli("report", quantized, "-o", "page.html")
    assert outcome.code == 4 and outcome.err == f"edgekd: {library} is not installed: pip install 'edgekd[report]'\n"
    assert not Path("page.html").exists()
