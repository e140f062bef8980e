"""The workflows of examples/ci: their shell steps run here as GitHub and GitLab run them, but for the installation."""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
CI = ROOT / "examples/ci"
GENEROUS = 'latency-min = "10s"\nsize = "10MB"\naccuracy-drop = "100 points"\n[regression]\ncpu-time = 400\nlatency-min = 400\n'

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(model: Path, tmp_path: Path) -> Path:
    """A repository with the model on `main`, and a branch of it; its clone is checked out as a CI service does it."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(model.parent, origin)
    (origin / "budget.toml").write_text(GENEROUS)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        (*identity, "commit", "-qm", "the model"),
        ("checkout", "-qb", "branch"),
        (*identity, "commit", "-qm", "a change", "--allow-empty"),
    ):
        subprocess.run(["git", "-C", str(origin), *command], check=True)
    subprocess.run(["git", "clone", "-q", str(origin), str(clone)], check=True)
    return clone


def environment(tmp_path: Path, variables: dict[str, str], **more: str) -> dict[str, str]:
    """Return the job's variables, with an `edgekd` that is this checkout, and short measurements."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "edgekd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgekd "$@"\n')
    (tools / "edgekd").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "GITHUB", "GITLAB"))}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    short = {"PATH": path, "PYTHONPATH": str(ROOT), "GATE_OPTIONS": "--duration 1s --launches 2"}
    return kept | {name: str(value) for name, value in variables.items()} | short | more


def run(script: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(shell, cwd=folder, env=variables, capture_output=True, text=True)


def test_github(checkout: Path, tmp_path: Path) -> None:
    workflow = yaml.safe_load((CI / "github/latency-gate.yml").read_text(encoding="utf-8"))
    assert workflow[True] == ["pull_request"]  # YAML 1.1 reads the key `on` so
    steps = {step.get("name", step.get("uses")): step for step in workflow["jobs"]["gate"]["steps"]}
    summary = tmp_path / "summary.md"
    variables = environment(
        tmp_path,
        workflow["env"],
        GITHUB_ACTIONS="true",
        GITHUB_BASE_REF="main",
        GITHUB_STEP_SUMMARY=str(summary),
        CI="true",
    )
    scripts = [step["run"] for name, step in steps.items() if "run" in step and name != "Install edgekd"]
    assert len(scripts) == 3 and "pip install" in steps["Install edgekd"]["run"]
    for script in scripts:
        done = run(script, checkout, variables)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "the machine is shared: GitHub Actions" in done.stdout and "timed in turns with" in done.stdout
    assert "::error" not in done.stdout and summary.read_text().startswith("### ")
    assert ElementTree.parse(checkout / "reports/gate.xml").getroot().get("failures") == "0"
    assert json.loads((checkout / "reports/benchmark.json").read_text())
    (checkout / "budget.toml").write_text('latency-min = "1us"\n')
    failed = run(scripts[-1], checkout, variables)
    assert failed.returncode == 1 and "::error title=model%3A latency-min budget%2C fail::" in failed.stdout


def test_gitlab(checkout: Path, tmp_path: Path) -> None:
    job = yaml.safe_load((CI / "gitlab/latency-gate.yml").read_text(encoding="utf-8"))["latency-gate"]
    base = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD~"], capture_output=True, text=True, check=True
    )
    sha = base.stdout.strip()
    variables = environment(tmp_path, job["variables"], GITLAB_CI="true", CI="true", CI_MERGE_REQUEST_DIFF_BASE_SHA=sha)
    done = run("\n".join(job["script"]), checkout, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = job["artifacts"]["reports"]
    assert ElementTree.parse(checkout / reports["junit"]).getroot().get("errors") == "0"
    families = {one.name for one in text_string_to_metric_families((checkout / reports["metrics"]).read_text())}
    assert {"edgekd_cpu_time_seconds", "edgekd_ratio_to_baseline"} <= families


def test_the_example_budget_is_one() -> None:
    from edgekd.device.gate.budget import read_budget
    from edgekd.device.launches.figures import PERCENTILES

    budget = read_budget([str(CI / "budget.toml")])
    assert budget.limits["latency-min"] == 20.0 and budget.thresholds["cpu-time"] == 5.0
    assert not PERCENTILES.keys() & budget.limits.keys()  # the runners are shared
