import subprocess
import sys
from pathlib import Path

import click
import pytest

import edgekd
from edgekd.cli import COMMANDS, group
from edgekd.cli.options import debug_option
from edgekd.verbs import doctor

from .conftest import Cli


def commands() -> list[tuple[str, ...]]:
    """Every command, and every command of a group."""
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.commands]
    return found


def find(path: tuple[str, ...]) -> click.Command:
    command = group.get_command(click.Context(group), path[0])
    for name in path[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command is not None
    return command


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help_and_takes_debug(cli: Cli, path: tuple[str, ...]) -> None:
    outcome = cli(*path, "--help")
    assert outcome.code == 0 and outcome.out.startswith("Usage: edgekd") and not outcome.err
    command = find(path)
    assert command.help and command.callback is not None and command.callback.__doc__
    assert "--debug" in outcome.out
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    undocumented = [
        option.name for option in options if not option.help and option.name not in ("device", "importance")
    ]
    assert not undocumented


def test_the_one_line_of_help_is_there_for_each_command(cli: Cli) -> None:
    shown = cli("--help").out
    assert all(name in shown for name in COMMANDS)
    assert "\\b" not in shown


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"edgekd {edgekd.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage"),
        (("comprss",), "Did you mean 'compress'?"),
        (("targets", "lst"), "No such command"),
        (("compress",), "Missing argument 'MODEL'"),
        (("compress", "model.pt"), "Missing option '-t' / '--target'"),
        (("compress", "model.pt", "--targt", "x"), "--target"),
        (("completion", "tcsh"), "bash"),
        (("profile",), "ARTIFACT"),
    ],
)
def test_wrong_usage_ends_with_two(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert words in outcome.err and not outcome.out


def test_debug_shows_the_traceback_and_keeps_the_exit_code(cli: Cli) -> None:
    outcome = cli("eval", "no.pt", "--debug")
    assert outcome.code == 2
    assert "Traceback" in outcome.err and outcome.err.splitlines()[-1].startswith("edgekd: no.pt does not exist")
    assert "Traceback" not in cli("eval", "no.pt").err


def test_an_interrupt_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "diagnose", interrupt)
    outcome = cli("doctor")
    assert outcome.code == 3 and outcome.err.strip() == "edgekd: interrupted"


def test_an_internal_error_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("lost\nand more")

    monkeypatch.setattr(doctor, "diagnose", fail)
    outcome = cli("doctor")
    assert outcome.code == 3
    assert outcome.err == "edgekd: internal error, please report it: RuntimeError: lost (--debug shows where)\n"


def test_debug_option_is_known_to_click() -> None:
    assert debug_option(lambda: None).__click_params__[0].name == "debug"  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [["--help"], ["compress", "--help"], ["prune", "--help"], ["targets", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgekd", *arguments], capture_output=True, text=True, check=True
    )
    imported = {line.split("|")[-1].strip().split(".")[0] for line in ran.stderr.splitlines() if "|" in line}
    assert "click" in imported
    assert not imported & {"rich", "pydantic", "torch", "numpy", "onnx", "onnxruntime", "filelock", "tomllib"}


def test_a_pipe_gets_plain_text_and_may_close(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "edgekd", "targets", "list"]
    ran = subprocess.run(start, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "\x1b" not in ran.stdout + ran.stderr
    assert max(map(len, ran.stdout.splitlines())) > 100  # no line is broken
    closed = subprocess.run(
        f"{' '.join(start)} | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert closed.returncode == 0 and not closed.stderr
