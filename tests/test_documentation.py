"""The pages say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.export.onnx_writer import write_onnx

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_the_readme_s_commands_exist_and_name_what_exists() -> None:
    for name in ("example", "tests"):
        done = subprocess.run(
            [sys.executable, ROOT / ".ci" / "readme_command.py", name], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("python3 -m venv .venv") and "\n" not in done.stdout.strip()
        for path in re.findall(r"examples/\S+", done.stdout):
            assert (ROOT / path).is_file()


def test_the_cpu_build_goes_into_the_environment_that_is_used() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (steps,) = [block for block in re.findall(r"```sh\n(.*?)```", readme, re.S) if "whl/cpu" in block]
    one_line = re.search(r"<!-- command: example -->\n```sh\n(.*)\n", readme)
    assert one_line is not None
    environment, torch, *rest = steps.splitlines()
    assert one_line[1].startswith(f"{environment} && ") and one_line[1].endswith(rest[-1])
    (version,) = re.findall(r"torch==\S+", one_line[1])
    assert torch == f"pip install {version} --index-url https://download.pytorch.org/whl/cpu"
    assert rest[0].startswith("pip install -e .")


def test_every_command_in_the_readme_is_a_command() -> None:
    from edgekd.cli import COMMANDS

    for page in PAGES:
        for name in re.findall(r"^edgekd ([a-z]+)", page.read_text(encoding="utf-8"), re.M):
            assert name in COMMANDS, f"{page.name}: edgekd {name}"


def test_the_page_of_python_runs(tmp_path: Path) -> None:
    for name, width in (("new", 8), ("old", 16)):
        signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3, 32, 32)),))
        write_onnx(ResNet8((width, width, width)).eval(), signature, tmp_path / f"{name}.onnx")
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- run by the tests -->\n```python\n(.*?)```", page, re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    latency, verdict, gated, predicted = done.stdout.splitlines()
    assert float(latency.split()[0]) > 0 and verdict in ("faster", "slower", "not distinguishable")
    assert "('size', 'pass')" in gated and "out of the range" in predicted


def test_arrows_point_down() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
