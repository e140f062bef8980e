"""What `compress` leaves in its directory: only what was checked, and nothing of an earlier request."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgekd
from edgekd.errors import InputError, StageError
from edgekd.models.onnx_graph import at_batch
from edgekd.recipe import parse_recipe
from edgekd.stages import KINDS
from edgekd.verbs.compress import Result

PLAIN = parse_recipe("", KINDS)  # no stages: the network is exported as it is
BYTES = parse_recipe('[export]\ninput = "uint8"', KINDS)


@pytest.fixture
def folder(example: Path, tmp_path: Path) -> Path:
    """The example, where its files may be changed."""
    shutil.copytree(example, tmp_path / "example")
    return tmp_path / "example"


def compress(folder: Path, *targets: str, recipe: object = PLAIN, **options: object) -> list[Result]:
    made = edgekd.compress(
        folder / "model.pt", targets or ("raspberry-pi-5",), output=folder / "out", recipe=recipe, threads=1, **options
    )
    assert isinstance(made, list)
    return made


def score(result: Result) -> float:
    value = result.report["stages"][0]["figures"]["score"]["value"]
    assert isinstance(value, float)
    return value


def test_other_preprocessing_is_another_score(folder: Path) -> None:
    first = score(compress(folder)[0])
    sidecar = folder / "model.toml"
    sidecar.write_text(sidecar.read_text().replace("mean = [0.2860]", "mean = [5.0]"))
    assert score(compress(folder)[0]) < first - 5


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be tied to a core here")
def test_other_work_while_it_timed_is_a_remark(folder: Path) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # on the same core
    try:
        (result,) = compress(folder)
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, cores)
    (remark,) = [one for one in result.report["remarks"] if one.startswith("while the latencies were measured")]
    assert "it waited for a core" in remark and "measure again on a quiet machine" in remark


def test_the_file_that_takes_bytes_is_scored_itself(folder: Path) -> None:
    (result,) = compress(folder, recipe=BYTES)
    assert result.report["final"]["figures"]["score"]["value"] == pytest.approx(score(result), abs=0.3)
    assert len(list((folder / "out" / "figures").glob("score-*"))) == 2


def test_only_the_targets_asked_for_are_in_the_artifact(folder: Path) -> None:
    artifact = folder / "out" / "artifact"
    compress(folder)
    assert (artifact / "manifest.json").exists()
    compress(folder, "raspberry-pi-5", "raspberry-pi-4")
    assert {path.name for path in artifact.iterdir()} == {"raspberry-pi-5", "raspberry-pi-4"}
    results = compress(folder, "raspberry-pi-5", "generic-x86")
    assert {path.name for path in artifact.iterdir()} == {"raspberry-pi-5", "generic-x86"}
    assert [result.artifact for result in results] == [artifact / "raspberry-pi-5", artifact / "generic-x86"]
    report = json.loads((folder / "out" / "report.json").read_text())
    assert [one["target"] for one in report["targets"]] == ["raspberry-pi-5", "generic-x86"]


@pytest.mark.parametrize("where", ["edgekd.verbs.compress.parity", "edgekd.host.time_files"])
def test_what_fails_its_check_or_its_measurement_replaces_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    compress(folder)
    before = {path: path.read_bytes() for path in (folder / "out").glob("artifact/*")}
    report = (folder / "out" / "report.json").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise StageError("differs")

    monkeypatch.setattr(where, fail)
    with pytest.raises(StageError, match="differs"):
        compress(folder, recipe=BYTES)
    assert {path: path.read_bytes() for path in (folder / "out").glob("artifact/*")} == before
    assert (folder / "out" / "report.json").read_bytes() == report
    assert not list((folder / "out").rglob(".partial-*"))


def test_a_file_of_eight_at_a_time_goes_through_and_says_so(folder: Path) -> None:
    compress(folder)
    model = at_batch(onnx.load(str(folder / "out" / "artifact" / "model.onnx")), 8)
    onnx.save(model, str(folder / "eight.onnx"))
    shutil.copy(folder / "model.toml", folder / "eight.toml")
    result = edgekd.compress(
        folder / "eight.onnx", "raspberry-pi-5", output=folder / "out8", recipe="quantize", threads=1
    )
    assert isinstance(result, Result)
    manifest = json.loads((result.artifact / "manifest.json").read_text())
    assert manifest["inputs"][0]["shape"][0] == 8 and manifest["outputs"][0]["shape"][0] == 8
    scores = [stage["figures"]["score"]["value"] for stage in result.report["stages"]]
    assert scores[0] > 60 and abs(scores[1] - scores[0]) < 3


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ('[[stage]]\nkind = "quantize"\n[[stage]]\nkind = "quantize"', {}, "stage 2 .*int8 by then"),
        ('[[stage]]\nkind = "distill"', {"arms": True}, "--arms"),
        ('[export]\ninput = "uint8"', {}, "unsigned bytes"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    folder: Path, text: str, options: dict[str, object], message: str
) -> None:
    with np.load(folder / "images.npz") as arrays:
        floats = arrays["image"].astype(np.float32)
    np.savez(folder / "floats.npz", image=floats)
    with pytest.raises(InputError, match=message):
        compress(folder, recipe=parse_recipe(text, KINDS), data=folder / "floats.npz", **options)
    assert not (folder / "out").exists()


def test_what_is_made_again_is_also_judged_again(folder: Path) -> None:
    compress(folder)
    (baseline,) = (folder / "out" / "onnx").iterdir()
    baseline.write_bytes(b"an old file")
    assert score(compress(folder, resume=False)[0]) > 60


def test_arms_are_no_matter_where_nothing_is_distilled(folder: Path) -> None:
    with np.load(folder / "images.npz") as arrays:
        np.savez(folder / "unlabelled.npz", image=arrays["image"])
    (result,) = compress(folder, data=folder / "unlabelled.npz", arms=True)
    assert "does not distill" in result.report["arms"]["from-scratch"]["reason"]


def test_a_metric_without_a_value_is_an_error(folder: Path) -> None:
    (folder / "wrong_metric.py").write_text("def measure(outputs, targets):\n    return float('nan')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with pytest.raises(InputError, match="wrong_metric:measure gives nan on 400 samples; the outputs are finite"):
            compress(folder, metric="wrong_metric:measure")
    assert not (folder / "out" / "artifact").exists()
