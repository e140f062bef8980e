from dataclasses import replace
from pathlib import Path

import pytest

from edgekd.device.gate.sharing import sharing_of
from edgekd.device.machine import read_machine


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags : fpu avx2\n")
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "pressure", "flags", "shared", "words"),
    [
        ({}, 0.0, "fpu avx2", False, "no sign"),
        ({"GITHUB_ACTIONS": "true", "CI": "true"}, 0.0, "fpu", True, "GitHub Actions"),
        ({"GITHUB_ACTIONS": "true", "RUNNER_ENVIRONMENT": "self-hosted"}, 0.0, "fpu", False, "no sign"),
        ({"GITLAB_CI": "true"}, 0.0, "fpu", True, "GitLab"),
        ({}, 12.0, "fpu", True, "12 %"),
        ({}, None, "fpu hypervisor avx2", True, "virtual machine"),
    ],
)
def test_signs_of_other_work(
    bare: Path, environment: dict[str, str], pressure: float | None, flags: str, shared: bool, words: str
) -> None:
    (bare / "proc/cpuinfo").write_text(f"flags : {flags}\n")
    machine = replace(read_machine(), pressure_cpu_percent=pressure)
    found = sharing_of(machine, environment=environment, root=bare)
    assert found.shared is shared and words in found.reason


@pytest.mark.parametrize("said", [True, False])
def test_what_a_person_says_counts(bare: Path, said: bool) -> None:
    found = sharing_of(read_machine(), said, {"CI": "true"}, bare)
    assert found.shared is said and found.reason in ("--shared", "--dedicated")
