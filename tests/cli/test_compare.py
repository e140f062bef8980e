import json
from pathlib import Path

import pytest

from edgekd.verbs import compare as comparing

from .conftest import Cli


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real = comparing.interleave_two
    monkeypatch.setattr(comparing, "interleave_two", lambda *runs, **options: real(*runs, **options, warmup_s=0.1))


def test_one_against_another(cli: Cli, exported: Path, quantized: Path) -> None:
    outcome = cli("compare", quantized, exported, "--duration", "0.5")
    assert outcome.code == 0 and ("95 % interval" in outcome.out or "too few blocks" in outcome.out)
    found = json.loads(cli("compare", exported, exported, "--json", "--duration", "0.5").out)
    assert found["comparison"]["verdict"] in ("faster", "slower", "not distinguishable")
    assert found["candidate"]["path"] == str(exported)


def test_what_cannot_be_compared_is_said(cli: Cli, exported: Path, model: Path) -> None:
    for other, words in (("none", "none"), (model, "edgekd export")):
        outcome = cli("compare", exported, other)
        assert outcome.code == 2 and words in outcome.err
