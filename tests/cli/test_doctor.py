import json
from importlib import metadata

import pytest

from edgekd.verbs import doctor

from .conftest import Cli


def test_everything_is_said(cli: Cli) -> None:
    outcome = cli("doctor")
    assert outcome.code == 0, outcome.err
    for words in (
        "torch",
        "needed",
        'pip install "edgekd[',
        "int8 products",
        "GPU",
        "ORT_DISABLE_TELEMETRY=1",
        "fashion-mnist",
        "docker",
    ):
        assert words in outcome.out


def test_json(cli: Cli) -> None:
    found = json.loads(cli("doctor", "--json").out)
    assert found["problems"] == [] and found["machine"]["cores"] >= 1
    packages = {one["name"]: one for one in found["packages"]}
    assert packages["torch"]["extra"] is None and packages["nncf"]["install_line"] == 'pip install "edgekd[openvino]"'


@pytest.mark.parametrize(("installed", "words"), [(None, "not installed"), ("0.1", "version 0.1, <3,>=2.12 is needed")])
def test_a_missing_or_wrong_core_package_ends_with_four(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, installed: str | None, words: str
) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: installed if name == "pydantic" else real(name))
    outcome = cli("doctor")
    assert outcome.code == 4 and f"edgekd: pydantic: {words}" in outcome.err
    assert 'pip install "pydantic<3,>=2.12"' in outcome.out


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    problems = {one.name: one.problem for one in doctor.packages() if one.problem}
    assert problems["torch"] == "installed, but does not load: libgomp.so.1: cannot open shared object file"


def test_without_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    (one,) = doctor.packages()
    assert one.problem == "runs without being installed" and "pip install -e ." in one.install_line
