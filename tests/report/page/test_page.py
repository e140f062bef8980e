import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError

from .browser import Document, browse, needs_chromium
from .conftest import REASON, Write, measured

STAGES = "every stage"


@needs_chromium
def test_the_browser_tells_what_a_page_should_not_do(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="http://127.0.0.1:9/seen.png"><script>console.log("heard")</script>', encoding="utf-8")
    seen = browse(page, tmp_path)
    assert seen.requests == {"http://127.0.0.1:9/seen.png"} and "heard" in seen.console[0]


@needs_chromium
def test_it_renders_quietly_and_its_numbers_are_those_of_the_report(
    write: Write, report: dict[str, Any], tmp_path: Path
) -> None:
    page, content = write(report)
    seen = browse(page, tmp_path)
    assert not seen.console and not seen.requests
    shown = Document(seen.dom)
    assert json.loads(shown.embedded) == content and content["targets"][0]["report"] == report
    assert shown.elements.count("h1") == 1 and shown.elements.count("svg") == 2
    columns = {
        "score": ("accuracy", "measured"), "size_kb": ("size", "counted"), "macs": ("MACs", "counted"),
        "parameters": ("parameters",), "latency_p50_ms": ("p50", "measured"), "latency_p95_ms": ("p95",),
    }  # fmt: skip
    for name, words in columns.items():
        cells = shown.column(STAGES, *words)
        assert {stage: cell.value for stage, cell in cells.items()} == {
            stage["name"]: stage["figures"][name]["value"] for stage in report["stages"]
        }
    for role in ("parent", "baseline"):
        speeds = {stage: cell.value for stage, cell in shown.column(STAGES, f"as {role}").items()}
        assert speeds == {
            stage["name"]: stage.get(f"against_{role}", {"speedup": {"ratio": None}})["speedup"]["ratio"] for stage in report["stages"]
        }  # fmt: skip
    texts = {stage: cell.text.split() for stage, cell in shown.column(STAGES, "accuracy").items()}
    assert texts["quantize"] == ["93.47", "93.00", "to", "93.94"]
    assert shown.column(STAGES, "p50")["quantize"].text.split() == ["0.0612", "0.0606", "to", "0.0618"]
    assert shown.column(STAGES, "as parent")["distill"].text.split()[0] == "~0.99"
    assert shown.column("The numbers of this plot", "p50")["prune"].value == 0.117
    assert "The same without prune, enlarged" in shown.text
    assert "(5.19 to 5.41), in one process" in shown.text and "edgekd compare times several" in shown.text
    assert list(shown.column("The numbers of the enlarged plot", "p50")) == ["baseline", "distill", "quantize"]


@needs_chromium
def test_names_are_text_whatever_is_in_them(write: Write, report: dict[str, Any], tmp_path: Path) -> None:
    names = (
        "<script>document.title='owned'</script>", '"><img src=http://127.0.0.1:9/x onerror=console.log(1)>', "</script></title>",
        "{{ 7 * 191 }}", "'; datum.value == 1 ? '", "\x1b[31m\x00", "\u202egnp",
    )  # fmt: skip
    report["model"]["name"] = report["target"] = report["data"]["origin"] = names[1]
    report["remarks"] = list(names)
    for one, name in zip(report["stages"], names, strict=False):
        one["name"] = name
    report["stages"][3]["notes"] = {"kept_float": {name: name for name in names}}
    report["recipe"]["description"] = names[2]
    layers = [{"name": name, "operator": name, "time_us": 3.0, "share": 0.1, "dtype": name} for name in names]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile(layers)), encoding="utf-8")
    page, content = write(report, evidence=(path,))
    seen = browse(page, tmp_path)
    shown = Document(seen.dom)
    assert not seen.console and not seen.requests
    assert shown.elements.count("script") == 1 and "img" not in shown.elements and shown.elements.count("title") == 1
    assert shown.text.count(names[0]) >= 3 and "1337" not in shown.text and "\\x1b[31m\\x00" in shown.text
    assert "\x1b" not in seen.dom and "\u202e" not in seen.dom
    assert json.loads(shown.embedded) == content


def profile(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "artifact": {"name": "resnet8", "precision": "int8", "sha256": "a" * 64}, "batch": 1,
        "session": {"runtime": "onnxruntime", "version": "1.23", "provider": "CPUExecutionProvider", "threads": "1"},
        "latency": {"n": 300, "p50_ms": 0.91, "p50_low_ms": 0.9, "p50_high_ms": 0.92, "p95_ms": 1.2, "p95_low_ms": 1.1, "p95_high_ms": 1.3,
                    "min_ms": 0.8, "mean_ms": 0.95, "mean_low_ms": 0.94, "mean_high_ms": 0.96, "max_ms": 2.5, "std_ms": 0.12},
        "inside_runtime": {"share": 0.5, "p50_ms": 0.455, "calls": 100}, "cold_start": {"load_ms": 18.0, "first_call_ms": 4.4}, "throughput_ended": "twice as many no longer pay",
        "peak_memory_mib": 61.5, "energy_absent": None, "throughput": [{"batch": 4, "p50_ms": 3.0, "samples_per_second": 1250.0}],
        "end_to_end": {
            "frame": [480, 640, 3], "preprocess_p50_ms": 2.0, "runtime_p50_ms": 0.9, "postprocess_p50_ms": 0.1,
            "latency": {"n": 200, "p50_ms": 3.1}, "frames_per_second": 320.0,
        },
        "energy": {
            "sensor": "pi5-pmic", "covers": "the board", "samples": 400, "busy_w": 4.6, "idle_w": 2.9, "total_mj": 4.21, "total_low_mj": 4.1, "total_high_mj": 4.3,
            "above_idle_mj": 1.5, "above_idle_low_mj": 1.4, "above_idle_high_mj": 1.6,
        },
        "layers": {"total_us": 30.0, "integer_share": 0.7, "conversion_share": 0.1, "nodes": nodes},
        "sustained": {
            "windows": [{"to_s": 60.0 * n, "p50_ms": 0.9 + n / 10, "p95_ms": 1.4, "temperature_celsius": 60.0 + n,
                         "throttled": ["throttled"] if n > 2 else []} for n in (1, 2, 3, 4)],
            "first_p50_ms": 1.0, "steady_p50_ms": 1.3, "slowdown_percent": 30.0,
        },
        "warnings": ["the firmware slows the board down: throttled"],
        "before": {"time_utc": "2026-11-28T05:00:00Z", "architecture": "aarch64", "board": "Raspberry Pi 5 Model B"},
    }  # fmt: skip


def test_a_board_s_profile_is_shown_as_its_own(write: Write, report: dict[str, Any], tmp_path: Path) -> None:
    nodes = [
        {"name": "a", "operator": "Conv", "time_us": 21.0, "share": 0.7, "dtype": "uint8"},
        {"name": "a", "operator": "Cast", "time_us": 9.0, "share": 0.3, "dtype": "float32"},
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile(nodes)), encoding="utf-8")
    page, content = write(report, evidence=(path, path))  # named twice, shown once
    assert len(content["targets"][0]["profiles"]) == 1
    shown = Document(page.read_text(encoding="utf-8"))
    board = shown.column("Raspberry Pi 5 Model B", "value")
    assert {name: cell.value for name, cell in board.items()} == {
        "latency p50, ms": 0.91, "latency p95, ms": 1.2, "peak memory, MiB": 61.5, "energy of a call, mJ": 4.21, "above idle, mJ": 1.5,
        "from a frame of 640 x 480 to the decision, p50, ms": 3.1, "of it preprocessing, ms": 2.0, "of it postprocessing, ms": 0.1,
        "of p50 in the runtime, ms": 0.455, "frames a second": 320.0, "samples a second, batch 4": 1250.0, "load time, ms": 18.0, "first call, ms": 4.4,
        "shortest call, ms": 0.8, "mean, ms": 0.95, "longest call, ms": 2.5, "standard deviation, ms": 0.12,
        "power while calls run, W": 4.6, "power at rest, W": 2.9,
    }  # fmt: skip
    assert shown.column("Raspberry Pi 5 Model B", "interval")["mean, ms"].text.strip() == "0.940 to 0.960"
    assert "No larger batch was measured: twice as many no longer pay." in shown.text
    assert "the firmware slowed it down in 2 of 4 windows" in shown.text
    assert [cell.text.strip() for cell in shown.column("every window", "slowed down").values()] == [
        "no",
        "no",
        "throttled",
        "throttled",
    ]
    assert "p90, p99: absent: 300 calls are too few" in shown.text and "the firmware slows the board down" in shown.text
    assert [cell.value for cell in shown.column("every node", "time").values()] == [9.0]  # both are called a
    assert "onnxruntime 1.23, Raspberry Pi 5 Model B, 1 thread" in shown.text
    assert [cell.value for cell in shown.column("every window", "p50").values()] == [1.0, 1.1, 1.2, 1.3]
    svg = page.read_text(encoding="utf-8")
    assert ">a (2)<" in svg and svg.count("rounding and layout: 9 µs") == 1


@pytest.mark.parametrize("p50_ms", [-5.0, 1e308])
def test_a_time_that_nobody_measured_is_refused(
    p50_ms: float, write: Write, report: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "profile.json"
    content = profile([{"name": "a", "operator": "Conv", "time_us": 21.0, "share": 0.7, "dtype": "uint8"}])
    path.write_text(json.dumps({**content, "latency": {"n": 300, "p50_ms": p50_ms}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"profile.json: latency.p50_ms"):
        write(report, evidence=(path,))


def test_energy_above_idle_that_is_lost_in_noise_is_no_number(
    write: Write, report: dict[str, Any], tmp_path: Path
) -> None:
    content = profile([{"name": "a", "operator": "Conv", "time_us": 21.0, "share": 0.7, "dtype": "uint8"}])
    content["energy"] |= {"above_idle_mj": -0.012, "above_idle_low_mj": -0.113, "above_idle_high_mj": 0.089}
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    page, _ = write(report, evidence=(path,))
    shown = Document(page.read_text(encoding="utf-8"))
    above = shown.column("Raspberry Pi 5 Model B", "value")["above idle, mJ"]
    assert above.value is None and above.text.strip() == "not distinguishable from rest"
    assert shown.column("Raspberry Pi 5 Model B", "interval")["above idle, mJ"].text.strip() == "-0.113 to 0.089"


@needs_chromium
def test_captions_of_wide_tables_are_read_whole_on_a_narrow_screen(
    write: Write, report: dict[str, Any], tmp_path: Path
) -> None:
    page, _ = write(report)
    tell = (
        "document.body.innerHTML = '<pre>' + [...document.querySelectorAll('.wide > table:not(details table)')].map(table => {"
        "const wide = table.parentElement.getBoundingClientRect(), caption = table.caption.getBoundingClientRect();"
        "return [table.offsetWidth > wide.width, caption.left >= wide.left && caption.right <= wide.right + 1]})"
        ".join(';') + '</pre>'"
    )
    html = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8"))  # the page allows no script
    page.write_text(html.replace("</body>", f"<script>{tell}</script></body>"), encoding="utf-8")
    (told,) = re.findall(r"<pre>(.*?)</pre>", browse(page, tmp_path, "--window-size=400,900").dom, re.DOTALL)
    assert "true,true" in told.split(";") and "false" not in {one.split(",")[1] for one in told.split(";")}, told


def test_instructions_of_an_emulated_board_are_no_time(write: Write, report: dict[str, Any], tmp_path: Path) -> None:
    counted = {
        "per_call": 632_080.0,
        "low": 631_904.0,
        "high": 632_248.0,
        "calls": 100,
        "counter": "clock",
        "how": "emulated",
    }
    nothing = dict.fromkeys(("latency", "energy", "end_to_end", "throughput", "layers", "sustained", "peak_memory_mib"))
    path = tmp_path / "profile.json"
    content = {**profile([]), **nothing, "latency_absent": "the clock counts instructions", "instructions": counted}
    path.write_text(json.dumps(content), encoding="utf-8")
    page, _ = write(report, evidence=(path,))
    shown = Document(page.read_text(encoding="utf-8"))
    assert [cell.value for cell in shown.column("Instructions, by clock", "value").values()] == [632_080.0]
    assert "Latency: absent: the clock counts instructions." in shown.text


def test_groups_of_channels_by_what_they_cost(write: Write, report: dict[str, Any], tmp_path: Path) -> None:
    groups = [
        {"group": {"root": "stem", "channels": 32}, "cut": 16, "macs": 0.2, "score": 50.0, "drop": 43.75},
        {"group": {"root": "gains", "channels": 32}, "cut": 16, "macs": 0.1, "score": 94.0, "drop": -0.25},
        {"group": {"root": "stays", "channels": 16}, "cut": 0, "macs": None, "score": None, "drop": None},
    ]
    found = {"metric": "accuracy", "unit": "%", "samples": 128, "granularity": 16, "score": 93.75, "groups": groups}
    path = tmp_path / "groups.json"
    path.write_text(json.dumps({"name": "model.pt", "sensitivity": found}), encoding="utf-8")
    page, _ = write(report, evidence=(path,))
    shown = Document(page.read_text(encoding="utf-8"))
    assert {name: cell.value for name, cell in shown.column("every group", "drop").items()} == {
        "stem": 43.75,
        "gains": -0.25,
    }


def test_figures_of_different_origin_share_no_column(write: Write, report: dict[str, Any]) -> None:
    predicted = {**measured(0.4, "ms", 0.1, 0), "how": "predicted", "on": "the roofline of the Raspberry Pi 5"}
    report["stages"][1]["figures"]["latency_p50_ms"] = predicted
    report["on_target"]["latency_p50_ms"] = predicted
    report["on_target"]["energy_mj"] = {**measured(3.1, "mJ", 0.1, 9), "how": "emulated"}
    page, _ = write(report)
    shown = Document(page.read_text(encoding="utf-8"))
    assert shown.column(STAGES, "p50", "measured")["prune"].value is None
    assert [one.value for one in shown.column(STAGES, "p50", "predicted").values()] == [None, 0.4, None, None]
    own = shown.column("Figures of the raspberry-pi-5 itself", "predicted")
    assert own["latency p50, ms"].value == 0.4 and own["energy, mJ"].text.strip() == ""
    assert "prune" not in shown.column("The numbers of this plot", "p50")
    origins = {caption.split(",")[0] for caption in shown.tables if re.search(r"\(\d+\)$", caption)}
    assert {"Predicted", "Measured", "Counted"} <= origins


def test_what_is_absent_says_why_and_is_no_number(write: Write, report: dict[str, Any]) -> None:
    page, _ = write(report)
    shown = Document(page.read_text(encoding="utf-8"))
    assert shown.column(STAGES, "p95")["prune"].value is None
    assert (
        "absent" in shown.column(STAGES, "p95")["prune"].text
        and "too few for p95" in shown.column(STAGES, "p95")["prune"].text
    )
    assert f"raspberry-pi-5 itself are absent: {REASON.replace('`', '')}" in shown.text
    assert shown.column("Budget", "figure")["energy_mj"].text.split()[0] == "absent"
    assert [cell.text.strip() for cell in shown.column("Budget", "verdict").values()] == ["fail", "not measured"]
    assert "without-distillation and from-scratch: not measured: ask with --arms" in shown.text
    assert "its file is no longer in the run" in shown.text and "--no-layers" in shown.text


def test_a_figure_without_a_value_is_absent_however_it_was_tried(write: Write, report: dict[str, Any]) -> None:
    tried = {"value": None, "unit": "ms", "how": "compiled", "reason": "the compiler gave up"}
    report["on_target"]["latency_p50_ms"] = report["stages"][1]["figures"]["latency_p50_ms"] = tried
    report["budget"][0]["figure"] = tried
    page, _ = write(report)
    shown = Document(page.read_text(encoding="utf-8"))
    assert shown.column(STAGES, "p50", "measured")["prune"].value is None
    assert shown.text.count("the compiler gave up") >= 4 and "Compiled" not in shown.text


def test_a_ratio_of_a_signal_to_no_noise_is_no_number(write: Write, report: dict[str, Any]) -> None:
    report["stages"][3]["notes"] = {
        "validation": {"mse, nearest": [94.0, float("inf")], "entropy, nearest": [93.0, 31.5]}
    }
    page, content = write(report)
    shown = Document(page.read_text(encoding="utf-8"))
    assert {name: cell.value for name, cell in shown.column("What quantize tried", "dB").items()} == {
        "mse, nearest": None, "entropy, nearest": 31.5,
    }  # fmt: skip
    assert json.loads(shown.embedded, parse_constant=pytest.fail) == content


def test_arms_stand_beside_the_run(write: Write, report: dict[str, Any]) -> None:
    report["arms"]["from-scratch"] = measured(91.6, "%", 0.5, 10_000)
    page, _ = write(report)
    shown = Document(page.read_text(encoding="utf-8"))
    scores = {name: cell.value for name, cell in shown.column("What distillation is worth", "accuracy").items()}
    assert scores == {"this run": 93.47, "from-scratch": 91.6}


def test_a_single_stage_and_a_score_without_unit_or_interval(write: Write, report: dict[str, Any]) -> None:
    report["metric"] = {"name": "mse", "unit": "", "higher_is_better": False}
    report["stages"] = report["stages"][:1]
    report["final"] = {"figures": report["stages"][0]["figures"]}
    report["final"]["figures"]["score"] = {"value": 0.01234567, "unit": "", "how": "measured", "on": "here"}
    page, _ = write(report)
    shown = Document(page.read_text(encoding="utf-8"))
    assert shown.column(STAGES, "mse")["baseline"].text.strip() == "0.01235"
    assert "Score against latency is not drawn" in shown.text and "svg" not in shown.elements


@needs_chromium
@pytest.mark.skipif(importlib.util.find_spec("axe_core_python") is None, reason="pip install axe-core-python")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_axe_finds_nothing_to_complain_about(scheme: int, write: Write, report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    nodes = [{"name": "a", "operator": "Conv", "time_us": 21.0, "share": 0.7, "dtype": "uint8"}]
    path.write_text(json.dumps(profile(nodes)), encoding="utf-8")
    page, _ = write(report, {**report, "target": "generic-x86"}, evidence=(path,))
    html = page.read_text(encoding="utf-8")
    found = importlib.util.find_spec("axe_core_python")
    assert found is not None and found.origin is not None
    axe = (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    html = re.sub(r"<meta http-equiv=[^>]*>", "", html).replace(
        "<details>", "<details open>"
    )  # the page allows no script
    tell = "axe.run().then(found => document.body.innerHTML = '<pre>' + found.passes.length + ' passed' + "
    tell += "found.violations.flatMap(v => v.nodes.map(n => '\\n' + v.id + ' ' + n.target + ' ' + n.failureSummary)).join('') + '</pre>')"
    page.write_text(html.replace("</body>", f"<script>{axe}</script><script>{tell}</script></body>"), encoding="utf-8")
    seen = browse(page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=20000")
    (told,) = re.findall(r"<pre>(.*?)</pre>", seen.dom, re.DOTALL)
    assert re.fullmatch(r"[2-9]\d passed", told), told
