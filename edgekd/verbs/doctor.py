"""What this machine and installation can do. Works in a broken installation: only Python's own library is needed."""

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^\]]*\])?\s*(?P<wanted>[^;]*?)\s*(?:;\s*(?P<marker>.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")
_LOADED = ("numpy", "onnxruntime", "torch")  # large native libraries: installed does not mean that they load
_TOOLS = {
    "java": "the IMX500's converter needs Java 17",
    "trtexec": "TensorRT's own measuring tool, on a Jetson",
    "docker": "the containers of docker/",
}


@dataclass(frozen=True)
class Requirement:
    """A package that edgekd or one of its extras needs; `extra` is None for the core."""

    name: str
    wanted: str
    extra: str | None

    @property
    def install_line(self) -> str:
        """Return the line that installs it."""
        if self.extra is None:
            return f'pip install "{self.name}{self.wanted}"'
        return f'pip install "edgekd[{self.extra}]"'


@dataclass(frozen=True)
class Package:
    """A requirement as it is found here. `problem` says what is wrong with it, or is None."""

    name: str
    wanted: str
    extra: str | None
    installed: str | None
    problem: str | None
    install_line: str


@dataclass(frozen=True)
class Diagnosis:
    """What this machine and installation can do; what could not be found out is None."""

    edgekd: str
    python: str
    executable: str
    system: str
    packages: tuple[Package, ...]
    machine: dict[str, Any]
    gpus: tuple[str, ...]
    telemetry: dict[str, str]
    data: tuple[dict[str, Any], ...]
    tools: dict[str, dict[str, str | None]]

    @property
    def problems(self) -> list[str]:
        """Return what keeps edgekd itself from working."""
        return [f"{one.name}: {one.problem}" for one in self.packages if one.extra is None and one.problem]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"schema": 1, **asdict(self), "problems": self.problems}


def diagnose() -> Diagnosis:
    """Look at packages, machine, graphics processors, telemetry, data and tools."""
    import edgekd

    return Diagnosis(
        edgekd=edgekd.__version__,
        python=platform.python_version(),
        executable=sys.executable,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=tuple(packages()),
        machine=_or(_machine, {}),
        gpus=tuple(_or(_gpus, [])),
        telemetry=_telemetry(),
        data=tuple(_or(_data, [])),
        tools={name: {"path": shutil.which(name), "for": purpose} for name, purpose in _TOOLS.items()},
    )


def requirements() -> list[Requirement]:
    """Return what the installed edgekd's own metadata require, core first, without the developers' extra.

    Raises:
        PackageNotFoundError: edgekd runs without being installed.
    """
    found = []
    for text in metadata.requires("edgekd") or []:
        match = _REQUIREMENT.fullmatch(text)
        if match is None or match["name"] == "edgekd":
            continue
        extra = _EXTRA.search(match["marker"] or "")
        if extra is None or extra[1] != "dev":
            found.append(Requirement(match["name"], match["wanted"], extra[1] if extra else None))
    return sorted(found, key=lambda one: (one.extra is not None, one.extra or "", one.name))


def packages() -> list[Package]:
    """Return every required package with its installed version and what is wrong with it."""
    try:
        wanted = requirements()
    except metadata.PackageNotFoundError:
        line = "pip install -e . (in the checkout)"
        return [Package("edgekd", "", None, None, "runs without being installed", line)]
    found = []
    for one in wanted:
        version = _version(one.name)
        problem = _problem(one, version)
        found.append(Package(one.name, one.wanted, one.extra, version, problem, one.install_line))
    return found


def _problem(wanted: Requirement, installed: str | None) -> str | None:
    if installed is None:
        return "not installed"
    if not _or(lambda: _satisfies(installed, wanted.wanted), True):
        return f"version {installed}, {wanted.wanted} is needed"
    if wanted.name in _LOADED:
        try:
            importlib.import_module(wanted.name)
        except Exception as error:  # a native library fails in many ways
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return f"installed, but does not load: {lines[0]}"
    return None


def _satisfies(installed: str, wanted: str) -> bool:
    from edgekd.device.versions import satisfies

    return satisfies(installed, wanted)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _or(find: Callable[[], Any], otherwise: Any) -> Any:
    """Return what `find` finds, or something else where the installation is too broken for it."""
    try:
        return find()
    except Exception:
        return otherwise


def _machine() -> dict[str, Any]:
    from edgekd.device.machine import read_machine, warnings

    machine = read_machine()
    return {**machine.to_dict(), "warnings": warnings(machine)}


def _gpus() -> list[str]:
    """Return the graphics processors that torch can train on, or that NVIDIA's tool shows."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return [f"{torch.cuda.get_device_name(index)}, used by --device cuda" for index in range(count)]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=10
    )
    names = listed.stdout.strip().splitlines() if listed.returncode == 0 else []
    return [f"{name}, not used: this torch ({torch.__version__}) has no CUDA for it" for name in names]


def _telemetry() -> dict[str, str]:
    """Return the variables that keep libraries from reporting home, as they are set in this process."""
    from edgekd.telemetry import VARIABLES

    return {name: os.environ.get(name, "not set") for name in VARIABLES}


def _data() -> list[dict[str, Any]]:
    """Return the shipped data sets, and whether the whole set is on this machine."""
    from edgekd.data.calibration_sets import read_set, set_names

    found = []
    for name in set_names():
        described, _ = read_set(name)
        folder = Path(described.full_set) if described.full_set else None
        whole = folder is not None and all((folder / file).is_file() for file in described.full_train)
        package = None if whole else described.full_set_package
        found.append({"name": name, "title": described.title, "whole": whole, "package": package})
    return found
