"""Is this machine's time ours? On a shared one a percentile of wall time says as much about the others as about the model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..machine import Machine

_HOSTED = {  # by the variable that a service sets in its jobs
    "GITHUB_ACTIONS": "GitHub Actions",
    "GITLAB_CI": "GitLab CI",
    "CI": "a CI job",
}
_PRESSURE_PERCENT = 5.0


@dataclass(frozen=True)
class Sharing:
    """Whether other work shares the machine, and how that is known."""

    shared: bool
    reason: str


def sharing_of(
    machine: Machine, said: bool | None = None, environment: Mapping[str, str] | None = None, root: Path = Path("/")
) -> Sharing:
    """Return whether the machine is shared: as the person said, or by its signs.

    Args:
        machine: Its state before anything was measured.
        said: True for shared, False for dedicated, None to look for signs.
        environment: Stands in for that of this process in tests.
        root: Stands in for this machine's files in tests.
    """
    if said is not None:
        return Sharing(said, "--shared" if said else "--dedicated")
    environment = os.environ if environment is None else environment
    if environment.get("RUNNER_ENVIRONMENT") != "self-hosted":
        for variable, service in _HOSTED.items():
            if environment.get(variable):
                return Sharing(True, f"{service} ({variable} is set)")
    if _in_virtual_machine(root):
        return Sharing(True, "a virtual machine, whose host may have other guests")
    pressure = machine.pressure_cpu_percent
    if pressure is not None and pressure > _PRESSURE_PERCENT:
        return Sharing(True, f"processes waited for a core {pressure:.0f} % of the last 10 s")
    return Sharing(False, "no sign of other work")


def _in_virtual_machine(root: Path) -> bool:
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(line.startswith("flags") and "hypervisor" in line.split() for line in text.splitlines())
