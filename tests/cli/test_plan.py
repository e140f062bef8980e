import json
from pathlib import Path

import numpy as np
import pytest

from .conftest import Cli


def test_a_plan_has_steps_times_and_notes(cli: Cli, model: Path) -> None:
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "--recipe", "quantize", "--accuracy-drop", "1")
    assert outcome.code == 0, outcome.err
    for words in ("plan for raspberry-pi-5", "1  quantize", "2  export", "in all about", "100 evaluation"):
        assert words in outcome.out
    assert "budget: accuracy_drop <= 1" in outcome.out
    assert not Path("edgekd-runs").exists()


def test_the_budget_is_the_merged_one_that_the_run_judges(cli: Cli, model: Path) -> None:
    Path("recipe.toml").write_text('[budget]\nsize_kb = 50\naccuracy_drop = 3\n[[stage]]\nkind = "quantize"\n')
    options = ("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml", "--accuracy-drop", "1")
    shown = cli(*options).out
    assert "budget: size_kb <= 50" in shown and "budget: accuracy_drop <= 1" in shown and "<= 3" not in shown
    assert json.loads(cli(*options, "--json").out)["budget"] == {"accuracy_drop": 1.0, "size_kb": 50.0}


def test_what_the_run_directory_has_is_stored(cli: Cli, model: Path, quantized: Path) -> None:
    Path("recipe.toml").write_text('[[stage]]\nkind = "quantize"\ncalibrators = ["min-max"]\n')
    options = ("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml", "-o", quantized)
    shown = cli(*options).out
    assert "stored" in shown and f"stored: {quantized} has this stage's output" in shown
    quantize, export = json.loads(cli(*options, "--json").out)["plans"][0]["steps"]
    assert (quantize["stored"], quantize["seconds"], export["stored"]) == (True, 0.0, False)
    for other in (("--seed", "7"), ("--no-resume",), ("-o", "new")):
        steps = json.loads(cli(*options, *other, "--json").out)["plans"][0]["steps"]
        assert not any(step["stored"] for step in steps), other


def test_a_problem_is_part_of_the_plan(cli: Cli, model: Path) -> None:
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "-t", "imx500", "--recipe", "quantize")
    assert outcome.code == 2
    assert "plan for raspberry-pi-5" in outcome.out and "plan for imx500" in outcome.out
    assert outcome.out.count("CANNOT WORK") == 1


def test_few_samples_are_used_and_too_few_refused(cli: Cli, model: Path) -> None:
    with np.load(model.parent / "images.npz") as arrays:
        np.savez("few.npz", x=arrays["image"][:300], y=arrays["y"][:300])
    outcome = cli("plan", model, "-t", "raspberry-pi", "--data", "few.npz")
    assert outcome.code == 0 and "raspberry-pi means raspberry-pi-5" in outcome.err
    assert "calibration takes 114 samples, not 512" in outcome.err and "in batches of 28" in " ".join(
        outcome.out.split()
    )
    with np.load("few.npz") as arrays:
        np.savez("fewer.npz", x=arrays["x"][:16])
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "-t", "generic-x86", "--data", "fewer.npz", "--json")
    assert outcome.code == 2 and outcome.err.count("6 samples are left to train on") == 1


def test_json(cli: Cli, model: Path) -> None:
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "-t", "nir", "--recipe", "quantize", "--json")
    assert outcome.code == 2
    good, bad = json.loads(outcome.out)["plans"]
    assert good["problem"] is None and [step["name"] for step in good["steps"]] == ["quantize", "export"]
    assert bad["problem"] in outcome.err


def test_no_data(cli: Cli, model: Path) -> None:
    Path("lonely.pt").write_bytes(model.read_bytes())
    outcome = cli("plan", "lonely.pt", "-t", "nir", "--input", "image:Nx1x28x28")
    assert outcome.code == 2 and "no data" in outcome.err


AFTER = '[[stage]]\nkind = "quantize"\n[[stage]]\nkind = "distill"\nepochs = 1\n'


def test_quantization_before_distillation_is_simulated(cli: Cli, model: Path) -> None:
    Path("recipe.toml").write_text(AFTER)
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml", "--json")
    assert outcome.code == 0, outcome.err
    (plan,) = json.loads(outcome.out)["plans"]
    quantize, distill, _ = plan["steps"]
    assert plan["problem"] is None and distill["name"] == "distill"
    assert "simulated int8" in quantize["description"] and "rounded at export" in quantize["description"]


def test_pruning_after_quantization_asks_for_a_simulated_one(cli: Cli, model: Path) -> None:
    order = '[[stage]]\nkind = "quantize"\n%s[[stage]]\nkind = "prune"\nto_macs = 0.6\n'
    Path("recipe.toml").write_text(order % "")
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml")
    assert (
        outcome.code == 2 and "stage 2 (prune) needs a prepared or torch network, quantize leaves onnx" in outcome.out
    )
    assert "set simulate = true" in outcome.out
    Path("recipe.toml").write_text(order % "simulate = true\n")
    assert cli("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml").code == 0


def test_sensitivity_is_that_of_the_recipe(cli: Cli, model: Path) -> None:
    Path("recipe.toml").write_text('[[stage]]\nkind = "prune"\nto_macs = 0.5\ngranularity = 4\nkeep = ["blocks.2"]\n')
    asked = ("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml")
    (plan,) = json.loads(cli(*asked, "--sensitivity", "--samples", "20", "--json").out)["plans"]
    tried = plan["sensitivity"]
    assert (tried["granularity"], tried["samples"]) == (4, 20)
    assert not any(one["group"]["root"] == "blocks.2.conv1" for one in tried["groups"])
    assert any("--sensitivity shows" in note for note in json.loads(cli(*asked, "--json").out)["plans"][0]["notes"])


def test_quantizing_twice_is_refused(cli: Cli, model: Path) -> None:
    Path("recipe.toml").write_text(AFTER + '[[stage]]\nkind = "quantize"\n')
    outcome = cli("plan", model, "-t", "raspberry-pi-5", "--recipe", "recipe.toml")
    assert outcome.code == 2 and "quantize once" in outcome.out


def seconds(cli: Cli, model: Path, stages: str, *options: str, target: str = "generic-x86") -> list[float | None]:
    Path("recipe.toml").write_text(stages)
    outcome = cli("plan", model, "-t", target, "--recipe", "recipe.toml", "--json", *options)
    assert outcome.code == 0, outcome.err
    return [step["seconds"] for step in json.loads(outcome.out)["plans"][0]["steps"]]


@pytest.mark.parametrize(
    "stage",
    [
        'kind = "quantize-weights"',
        'kind = "quantize-dynamic"',
        'kind = "half"\nstorage_only = true',
        'kind = "mask"\nsparsity = 0.5',
        'kind = "rewrite"\nrewrites = ["fold-batch-norm"]',
        'kind = "quantize"\naccuracy_drop = 0.5',
    ],
)
def test_every_stage_has_a_time(cli: Cli, model: Path, stage: str) -> None:
    found = seconds(cli, model, f"[[stage]]\n{stage}\n")
    assert all(one is not None and one > 0 for one in found)


def test_training_a_fake_quantized_network_takes_longer_than_one_in_float(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.verbs.plan.forward_seconds", lambda state: 0.01)
    distill = '[[stage]]\nkind = "distill"\nepochs = 4\n'
    (alone, _), (_, behind, _) = (
        seconds(cli, model, text) for text in (distill, '[[stage]]\nkind = "quantize"\n' + distill)
    )
    assert alone is not None and behind is not None
    assert behind / alone == pytest.approx((3 * 2.25 + 1) / 4, rel=0.01)  # the teacher stays in float


def test_nncf_rounds_in_one_way(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekd.stages.quantize.executors.openvino.PACKAGES", ())  # what is installed is no matter here
    Path("recipe.toml").write_text('[[stage]]\nkind = "quantize"\n')
    shown = cli("plan", model, "-t", "intel-npu", "--recipe", "recipe.toml", "--json").out
    said = json.loads(shown)["plans"][0]["steps"][0]["description"]
    assert "3 calibrators x 1 rounding" in said and "roundings" not in said
