"""Each output, read back by a parser of its format."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from edgekd.device.errors import DeviceError
from edgekd.device.gate.outputs import Outputs
from edgekd.device.gate.outputs.benchmark_json import benchmark_json
from edgekd.device.gate.outputs.github import LARGEST_SUMMARY, annotations, append_summary, markdown
from edgekd.device.gate.outputs.gitlab import openmetrics
from edgekd.device.gate.outputs.junit import junit
from edgekd.device.gate.outputs.text import text

_COMMAND = re.compile(r"::(error|warning|notice) ((?:[a-zA-Z]+=[^,:\r\n]*)(?:,[a-zA-Z]+=[^,:\r\n]*)*)::([^\r\n]*)")


def parse_command(line: str) -> tuple[str, dict[str, str], str]:
    """Read a workflow command as GitHub's runner does: in properties `:` and `,` are escaped as well."""
    found = _COMMAND.fullmatch(line)
    assert found is not None, line

    def plain(value: str) -> str:
        for escape, letter in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            value = value.replace(escape, letter)
        return value

    properties = dict(pair.split("=", 1) for pair in found[2].split(","))
    return found[1], {name: plain(value) for name, value in properties.items()}, plain(found[3])


def test_junit_counts_what_it_holds(result: dict[str, Any]) -> None:
    root = ElementTree.fromstring(junit(result))
    assert root.tag == "testsuites"
    for element in (root, *root.findall("testsuite")):
        cases = list(element.iter("testcase"))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.get(attribute, "-1")) == len(list(element.iter(tag))) == 1
        assert int(element.get("tests", "-1")) == len(cases) == 5
    failure, error, skipped = (next(root.iter(tag)) for tag in ("failure", "error", "skipped"))
    assert failure.get("type") == "budget" and "12 ms" in str(failure.get("message"))
    assert "no sensor" in str(error.text) and "shared" in str(skipped.get("message"))
    case = next(root.iter("testcase"))
    assert case.get("classname") == 'net "a", 50% <b>|c.raspberry-pi-5' and case.get("name") == "latency-p95 budget"
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert properties["value"] == "12.0" and properties["limit"] == "10.0" and properties["unit"] == "ms"


@pytest.fixture
def crashed(result: dict[str, Any]) -> dict[str, Any]:
    """A result whose model crashed, where no check that was measured or asked for is left to say so."""
    for check in result["checks"]:
        check |= {"gates": False, "informs": "informs only", "outcome": "not measured", "reason": "it crashed"}
    return result | {"outcome": "not measured", "exit_code": 3, "failure": "it crashed", "session": None}


def test_a_model_that_crashes_is_an_error_in_every_output(crashed: dict[str, Any]) -> None:
    root = ElementTree.fromstring(junit(crashed))
    assert (root.get("errors"), root.get("failures"), root.get("skipped"), root.get("tests")) == ("1", "0", "5", "6")
    assert next(root.iter("error")).get("message") == "it crashed"
    kind, properties, message = parse_command(annotations(crashed)[0])
    assert (kind, message) == ("error", "it crashed") and properties["title"] == 'net "a", 50% <b>|c'
    assert "UNDECIDED" in markdown(crashed) and "- not measured: it crashed" in markdown(crashed)
    assert text(crashed).count("it crashed") == 1
    families = {family.name: family for family in text_string_to_metric_families(openmetrics(crashed))}
    assert families["edgekd_gate_exit_code"].samples[0].value == 3


def test_annotations_are_commands_that_the_runner_reads(result: dict[str, Any]) -> None:
    commands = [parse_command(line) for line in annotations(result)]
    assert [kind for kind, _, _ in commands] == ["error", "error", "warning"]
    _, properties, message = commands[1]
    assert properties == {"title": 'net "a", 50% <b>|c: energy budget, not measured'}
    assert "no sensor:\r\n50% of them" in message
    assert "latency-p95 fail: 12 ms (11.5 ms to 12.5 ms), allowed <= 10 ms" in commands[0][2]


def test_the_summary_is_one_table_and_stays_below_github_s_limit(result: dict[str, Any], tmp_path: Path) -> None:
    page = markdown(result)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 5 and len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "&lt;b>\\|c" in page and "<b>" not in page
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    append_summary(page, summary)
    assert summary.read_text().startswith("before\n### net")
    summary.write_bytes(b"x" * (LARGEST_SUMMARY - 10))
    append_summary(page, summary)
    assert summary.stat().st_size == LARGEST_SUMMARY - 10


def test_metrics_are_openmetrics_in_base_units(result: dict[str, Any]) -> None:
    content = openmetrics(result)
    assert content.endswith("# EOF\n")
    families = {family.name: family for family in text_string_to_metric_families(content)}
    latency = families["edgekd_latency_p95_seconds"]
    assert latency.unit == "seconds" and latency.samples[0].value == pytest.approx(0.012)
    assert latency.samples[0].labels["model"] == 'net "a", 50% <b>|c'
    assert families["edgekd_size_bytes"].samples[0].value == 329_869
    assert "edgekd_energy_joules" not in families  # not measured
    ratios = {one.labels["figure"]: one.value for one in families["edgekd_ratio_to_baseline"].samples}
    assert ratios == {"cpu-time": 1.0, "latency-p99": 2.0}


def test_benchmark_json_holds_the_figures_that_were_measured(result: dict[str, Any]) -> None:
    entries = json.loads(benchmark_json(result))
    assert [one["name"].rpartition(" ")[2] for one in entries] == ["latency-p95", "size"]
    assert entries[0]["unit"] == "ms" and entries[0]["value"] == 12.0 and entries[0]["range"] == "11.5 to 12.5"
    assert all(isinstance(one["extra"], str) for one in entries)


def test_the_terminal_s_table(result: dict[str, Any]) -> None:
    lines = text(result).splitlines()
    assert lines[1].split() == ["figure", "measured", "95", "%", "interval", "baseline", "change", "allowed", "outcome"]
    assert lines[2].endswith("fail") and "11.5 ms to 12.5 ms" in lines[2]
    assert lines[6].endswith("(fail)") and "+100.0 %" in lines[6]
    assert lines[-1] == "FAIL: 2 of 4 checks passed"


def test_all_are_written_and_a_place_that_is_not_there_is_named(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    outputs = Outputs(tmp_path / "gate.xml", tmp_path / "metrics.txt", tmp_path / "benchmark.json")
    assert outputs.write(result) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "benchmark.json",
        "gate.xml",
        "metrics.txt",
        "summary.md",
    ]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert len(outputs.write(result)) == 3
    with pytest.raises(DeviceError, match="cannot write"):
        Outputs(junit=tmp_path / "none/gate.xml").write(result)


def test_a_gate_without_a_result_says_so_where_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    message = "figures.json holds no baseline for <this>: threads 1 there, 2 here"
    (tmp_path / "metrics.txt").write_text("edgekd_gate_exit_code 0\n")  # of a job that passed
    outputs = Outputs(tmp_path / "gate.xml", tmp_path / "metrics.txt", tmp_path / "benchmark.json", github=True)
    (line,) = outputs.refuse(message, 2)
    assert "edgekd_gate_exit_code 2\n" in (tmp_path / "metrics.txt").read_text()
    assert json.loads((tmp_path / "benchmark.json").read_text()) == []
    assert parse_command(line) == ("error", {"title": "edgekd gate"}, message)
    root = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert root.get("errors") == root.get("tests") == "1" and next(root.iter("error")).text == message
    assert "**figures.json holds no baseline for &lt;this>" in (tmp_path / "summary.md").read_text()


def test_paths_that_cannot_be_written_are_named_at_once(tmp_path: Path) -> None:
    same, other_way = tmp_path / "report", tmp_path / "." / ".." / tmp_path.name / "report"
    with pytest.raises(DeviceError, match="--junit and --benchmark-json would both write"):
        Outputs(junit=same, benchmark_json=other_way).check([])
    with pytest.raises(DeviceError, match="it is a folder"):
        Outputs(gitlab_metrics=tmp_path).check([])
    Outputs(same, tmp_path / "metrics", tmp_path / "benchmark").check([])


def test_nothing_that_is_read_is_overwritten(tmp_path: Path) -> None:
    model, run = tmp_path / "model.onnx", tmp_path / "run"
    run.mkdir()
    for path in (model, run / "report.json", run / "gate.xml"):
        path.write_text("x")
    link = tmp_path / "link"
    link.symlink_to(model)
    for taken in (model, link, run / "report.json"):
        with pytest.raises(DeviceError, match="belongs to what is gated"):
            Outputs(junit=taken).check([model, run])
    Outputs(junit=run / "gate.xml", gitlab_metrics=run / "new").check([model, run])
    with pytest.raises(DeviceError, match="no regular file"):
        Outputs(junit=Path(os.devnull)).refuse("message", 3)
    assert not Path(os.devnull).is_file()
