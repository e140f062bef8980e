import os
import subprocess
import sys

import pytest

from .conftest import Cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(cli: Cli, shell: str) -> None:
    outcome = cli("completion", shell)
    assert outcome.code == 0 and f"_EDGEKD_COMPLETE={shell}_complete" in outcome.out


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("edgekd compress model.pt --target raspberry-pi-", "plain,raspberry-pi-5"),
        ("edgekd targets show jetson-agx-t", "plain,jetson-agx-thor"),
        ("edgekd comp", "plain,compress"),
        ("edgekd eval --part val", "plain,validation"),
    ],
)
def test_the_shell_gets_names(words: str, wanted: str) -> None:
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    ran = subprocess.run(
        [sys.executable, "-c", "from edgekd.cli import main; main()"],
        env={**environment, "_EDGEKD_COMPLETE": "bash_complete"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert wanted in ran.stdout.splitlines(), ran.stderr
