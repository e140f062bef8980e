"""What the device half may use: Python 3.10, numpy and the runtime; nothing else of edgekd."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgekd.device

PACKAGE = Path(edgekd.device.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_file_is_python_3_10(source: Path) -> None:
    ast.parse(source.read_text(), filename=str(source), feature_version=(3, 10))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_file_imports_only_the_standard_library_numpy_and_its_own_runtime(source: Path) -> None:
    allowed = {*sys.stdlib_module_names, "numpy"} - {"tomllib"}
    if source.parent.name == "runtimes":
        allowed.add(source.stem)
    if source.name == "nvml.py":  # imported where it is asked for, and may be missing
        allowed.add("pynvml")
    depth = len(source.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= depth, "a relative import leaves the device half"
            assert node.level or (node.module or "").split(".")[0] in allowed


def _python_3_10() -> str | None:
    candidates = [os.environ.get("EDGEKD_PYTHON310", ""), "python3.10"]
    candidates += [str(path) for path in sorted((Path.home() / ".pyenv/versions").glob("3.10.*/bin/python"))]
    for candidate in filter(None, candidates):
        try:
            found = subprocess.run([candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True)
        except OSError:
            continue
        if found.stdout.strip() == b"(3, 10)":
            return candidate
    return None


def test_python_3_10_itself_compiles_and_runs_it(artifact: Path) -> None:
    python = _python_3_10()
    if python is None:
        pytest.skip("no Python 3.10 on this machine")
    code = "import sys; [compile(open(name).read(), name, 'exec') for name in sys.argv[1:]]"
    subprocess.run([python, "-I", "-c", code, *map(str, SOURCES)], check=True)
    command = [python, "-I", str(artifact / "run.pyz"), "verify"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=artifact.parent)
    if subprocess.run([python, "-I", "-c", "import numpy, onnxruntime"], capture_output=True).returncode == 0:
        assert result.returncode == 0, result.stderr
    else:
        assert result.returncode == 4 and "pip install" in result.stderr
