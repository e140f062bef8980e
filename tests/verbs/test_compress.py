"""The main job, small: a network that has learned something, real images, every stage, the artifact and its evidence."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import edgekd
from edgekd.budget import Budget
from edgekd.data import Dataset
from edgekd.device.batches import run_all
from edgekd.device.manifest import read_manifest
from edgekd.device.runtimes import open_session
from edgekd.errors import BudgetMissed, InputError
from edgekd.recipe import Recipe, parse_recipe
from edgekd.request import Request, prepare
from edgekd.stages import KINDS
from edgekd.teachers.live import LiveTeacher
from edgekd.verbs.compress import Result

SMALL = (Path(__file__).parent.parent / "small.toml").read_text(encoding="utf-8")


def small(text: str = SMALL) -> Recipe:
    return parse_recipe(text, KINDS)


@pytest.fixture(scope="session")
def result(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("whole") / "run"
    made = edgekd.compress(example / "model.pt", "raspberry-pi-5", output=folder, recipe=small(), threads=1)
    assert isinstance(made, Result)
    return made


def test_the_stages_are_reported_in_order_with_their_figures(result: Result) -> None:
    stages = result.report["stages"]
    assert [stage["name"] for stage in stages] == ["baseline", "prune", "distill", "quantize"]
    macs = [stage["figures"]["macs"]["value"] for stage in stages]
    assert macs[1] <= 0.6 * macs[0] and macs[1] == macs[2] == macs[3]
    sizes = [stage["figures"]["size_kb"]["value"] for stage in stages]
    assert sizes[3] < sizes[1] < sizes[0]
    for stage in stages[1:]:
        assert {"against_parent", "against_baseline"} <= set(stage)
        assert stage.get("against_float") == (stage["against_parent"] if stage["name"] == "quantize" else None)
        low, ratio, high = (stage["against_baseline"]["speedup"][key] for key in ("low", "ratio", "high"))
        assert low <= ratio <= high


def test_every_figure_says_how_it_was_obtained_or_why_it_is_absent(result: Result) -> None:
    figures = [figure for stage in result.report["stages"] for figure in stage["figures"].values()]
    figures += [*result.report["on_target"].values(), *result.report["arms"].values()]
    for figure in figures:
        assert figure["how"] in ("measured", "counted") if figure["value"] is not None else figure["reason"]


def test_nothing_is_claimed_for_a_board_that_is_not_here(result: Result) -> None:
    latency = result.report["on_target"]["latency_p50_ms"]
    assert latency["value"] is None and "no Raspberry Pi 5" in latency["reason"]


def test_the_int8_file_decides_like_the_network_it_came_from(result: Result) -> None:
    scores = {stage["name"]: stage["figures"]["score"]["value"] for stage in result.report["stages"]}
    assert scores["baseline"] > 60 and abs(scores["quantize"] - scores["distill"]) < 3
    assert result.report["parity"]["against"] == "distill" and result.report["parity"]["agreement"] > 0.9


def test_the_artifact_is_int8_in_qdq_form_and_passes_its_self_check(result: Result) -> None:
    graph = onnx.load(str(result.artifact / "model.onnx")).graph
    kinds = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds
    convolutions = [tensor for tensor in graph.initializer if len(tensor.dims) == 4]
    assert sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in convolutions) >= len(convolutions) - 1
    done = subprocess.run(
        [sys.executable, "-P", str(result.artifact / "run.pyz"), "verify", "--json"],
        capture_output=True, text=True, cwd="/", check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


def test_the_artifact_holds_no_local_path_and_no_stranger(result: Result, example: Path) -> None:
    names = {path.name for path in result.artifact.iterdir()}
    assert names == {"manifest.json", "model.onnx", "run.pyz", "samples.npz"}
    for path in result.artifact.iterdir():
        content = path.read_bytes()
        assert str(example).encode() not in content and os.path.expanduser("~").encode() + b"/" not in content


def test_private_samples_stay_at_home(result: Result, fashion: Dataset) -> None:
    manifest = read_manifest(result.artifact)
    assert manifest.selfcheck.origin.startswith("synthetic")  # the .npz states no licence
    with np.load(result.artifact / "samples.npz") as samples:
        assert samples["input.image"].min() < -2  # random, not pixels


def test_the_report_says_which_data_and_whose(result: Result, example: Path) -> None:
    data = result.report["data"]
    assert (data["provenance"], data["licence"]) == ("not stated", "not stated")
    assert len(data["sha256"]) == 64 and int(data["sha256"], 16)


def test_the_report_and_the_recipe_are_beside_it(result: Result) -> None:
    folder = result.artifact.parent
    assert json.loads((folder / "report.json").read_text()) == result.report
    assert json.loads((folder / "recipe.json").read_text())["stages"][0]["to_macs"] == 0.6


def fields_of(value: Any) -> set[str]:
    """Return the names of all fields of a report, but for those inside of what the page describes as a whole."""
    if isinstance(value, list):
        return {name for one in value for name in fields_of(one)}
    if not isinstance(value, dict):
        return set()
    whole = ("recipe", "host", "software", "notes")
    inside = {name for field, one in value.items() if field not in (*whole, "artifact") for name in fields_of(one)}
    return {*value, *inside, *fields_of(list(value.get("artifact", {}).values()))}


def test_the_page_about_the_report_names_its_fields_and_no_other(result: Result, example: Path) -> None:
    made = edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=result.artifact.parent, recipe=small(), threads=1,
        budget=Budget(size_kb=1),
    )  # fmt: skip
    assert isinstance(made, Result)
    whole = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    page = whole.partition("## report.json")[2]
    there = fields_of(made.report)
    assert there - set(re.findall(r"`([^`]+)`", page)) == set()
    rows = re.findall(r"^\| (`.+?) \|", page, re.M)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} - there == set()


def test_a_second_run_takes_everything_from_the_first(result: Result, example: Path) -> None:
    explained: list[str] = []
    again = edgekd.compress(
        example / "model.pt",
        "raspberry-pi-5",
        output=result.artifact.parent,
        recipe=small(),
        threads=1,
        explain=explained.append,
    )
    assert isinstance(again, Result)
    assert {line.split(":")[1].split()[0] for line in explained} == {"reused"} and len(explained) >= 4
    assert again.report == {**result.report, "host": again.report["host"]}


def test_a_changed_setting_makes_only_what_depends_on_it(result: Result, example: Path) -> None:
    explained: list[str] = []
    edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=result.artifact.parent, threads=1, explain=explained.append,
        recipe=small(SMALL.replace('["min-max", "mse"]', '["mse"]')),
    )  # fmt: skip
    assert [line.split()[1] for line in explained[:4]] == ["reused"] * 3 + ["made:"]
    assert "other settings" in explained[3]


def test_several_targets_share_the_training(example: Path, tmp_path: Path) -> None:
    said: list[str] = []
    made = edgekd.compress(
        example / "model.pt", ["raspberry-pi-5", "generic-x86"], output=tmp_path / "run", recipe=small(), threads=1,
        say=said.append,
    )  # fmt: skip
    assert isinstance(made, list)
    assert [one.artifact.name for one in made] == ["raspberry-pi-5", "generic-x86"]
    assert sum(line.startswith("distill: train") for line in said) == 1
    assert made[1].report["on_target"]["latency_p50_ms"]["how"] == "measured"


def test_bytes_go_in_when_asked(example: Path, tmp_path: Path, fashion: Dataset) -> None:
    recipe = small(
        '[data]\ncalibration = 64\n[[stage]]\nkind = "quantize"\ncalibrators = ["mse"]\n[export]\ninput = "uint8"'
    )
    made = edgekd.compress(example / "model.pt", "raspberry-pi-5", output=tmp_path / "run", recipe=recipe, threads=1)
    assert isinstance(made, Result)
    session = open_session("onnxruntime", made.artifact / "model.onnx", 1)
    assert session.inputs[0].dtype == "uint8"
    raw = fashion.inputs["image"][-400:]
    outputs = run_all(session, {"image": raw})["output"]
    assert fashion.targets is not None
    share = 100 * (outputs.argmax(1) == fashion.targets[-400:]).mean()
    assert share == pytest.approx(made.report["final"]["figures"]["score"]["value"], abs=0.6)


def test_the_arms_without_a_teacher_are_measured_when_asked(example: Path, result: Result) -> None:
    made = edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=result.artifact.parent, recipe=small(), threads=1, arms=True
    )
    assert isinstance(made, Result)
    arms = made.report["arms"]
    assert set(arms) == {"without-distillation", "from-scratch"}
    assert all(arm["how"] == "measured" for arm in arms.values())
    assert result.report["arms"]["from-scratch"]["value"] is None


def test_a_budget_gets_its_verdict(example: Path, result: Result) -> None:
    made = edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=result.artifact.parent, recipe=small(), threads=1,
        budget=Budget(size_kb=1, accuracy_drop=100, latency_ms=5),
    )  # fmt: skip
    assert isinstance(made, Result)
    outcomes = {verdict.limit: verdict.outcome for verdict in made.verdicts}
    assert outcomes == {"size_kb": "fail", "accuracy_drop": "pass", "latency_ms": "not measured"}


def test_a_network_in_memory_in_five_lines(trained: nn.Module, fashion: Dataset, tmp_path: Path) -> None:
    made = edgekd.compress(
        trained, target="raspberry-pi-5", data=fashion, recipe=small(), output=tmp_path / "r", threads=1
    )
    assert isinstance(made, Result) and (made.artifact / "model.onnx").is_file()
    assert made.report["model"]["format"] == "in memory"


class TwoInputs(nn.Module):
    """Two inputs, a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.side = nn.Linear(16, 16), nn.Linear(4, 16)
        self.act = nn.ReLU()
        self.head, self.other = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, image: Tensor, side: Tensor) -> dict[str, Tensor]:
        x = self.act(self.image(image.flatten(1)) + self.side(side))
        return {"logits": self.head(x), "value": self.other(x)}


def test_several_inputs_and_outputs_go_all_the_way(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    image = generator.standard_normal((300, 1, 4, 4)).astype(np.float32)
    side = generator.standard_normal((300, 4)).astype(np.float32)
    data = Dataset({"image": image, "side": side}, targets=(image.sum((1, 2, 3)) > 0).astype(int) + (side[:, 0] > 0))
    recipe = small(SMALL.replace("to_macs = 0.6", "to_parameters = 0.8").replace("granularity = 8", "granularity = 4"))
    made = edgekd.compress(TwoInputs(), "raspberry-pi-5", data, output=tmp_path / "run", recipe=recipe, threads=1)
    assert isinstance(made, Result)
    manifest = read_manifest(made.artifact)
    assert [spec.name for spec in manifest.inputs] == ["image", "side"]
    assert [spec.name for spec in manifest.outputs] == ["logits", "value"]


@pytest.mark.parametrize("task", ["regression", "segmentation", "anomaly"])
def test_every_task_goes_all_the_way(task: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    images = generator.standard_normal((300, 1, 8, 8)).astype(np.float32)
    networks: dict[str, tuple[nn.Module, np.ndarray]] = {
        "regression": (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1)),
            images.mean((1, 2, 3)),
        ),
        "segmentation": (
            nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 1)),
            (images[:, 0] > 0).astype(int),
        ),
        "anomaly": (nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1)), np.arange(300) % 2),
    }
    network, targets = networks[task]
    torch.save(network, tmp_path / "model.pt")
    (tmp_path / "model.toml").write_text(f'task = "{task}"\n[[inputs]]\nname = "x"\nshape = ["batch", 1, 8, 8]\n')
    np.savez(tmp_path / "data.npz", x=images, y=targets)
    recipe = small(SMALL.replace("to_macs = 0.6", "to_parameters = 0.7"))
    made = edgekd.compress(
        tmp_path / "model.pt",
        "raspberry-pi-5",
        tmp_path / "data.npz",
        output=tmp_path / "run",
        recipe=recipe,
        threads=1,
    )
    assert isinstance(made, Result)
    assert made.report["metric"]["name"] == {"regression": "mse", "segmentation": "miou", "anomaly": "auc"}[task]
    assert np.isfinite(made.report["final"]["figures"]["score"]["value"])


def test_an_onnx_model_is_quantized_but_not_trained(result: Result, example: Path, tmp_path: Path) -> None:
    plain = edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=tmp_path / "plain", recipe="export", threads=1
    )
    assert isinstance(plain, Result)
    (tmp_path / "model.toml").write_text((example / "model.toml").read_text().replace('data = "images.npz"', ""))
    model = tmp_path / "model.onnx"
    model.write_bytes((plain.artifact / "model.onnx").read_bytes())
    data = example / "images.npz"
    made = edgekd.compress(model, "raspberry-pi-5", data, output=tmp_path / "run", threads=1)
    assert isinstance(made, Result)
    assert [stage["name"] for stage in made.report["stages"]] == ["baseline", "quantize"]
    with pytest.raises(InputError, match=r"stage 1 \(prune\) needs a prepared or torch network, the model is onnx"):
        edgekd.compress(model, "raspberry-pi-5", data, output=tmp_path / "no", recipe=small(), threads=1)


def test_an_impossible_order_is_refused_before_any_work(example: Path, tmp_path: Path) -> None:
    recipe = small('[[stage]]\nkind = "quantize"\n[[stage]]\nkind = "prune"\nto_macs = 0.5')
    with pytest.raises(InputError, match=r"stage 2 \(prune\) needs a prepared or torch network, quantize leaves onnx"):
        edgekd.compress(example / "model.pt", "raspberry-pi-5", output=tmp_path / "run", recipe=recipe, threads=1)
    assert not (tmp_path / "run").exists()


def test_a_target_without_an_export_says_so_before_any_work(example: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="imx500: the export for imx500 is not there yet"):
        edgekd.compress(example / "model.pt", "imx500", output=tmp_path / "run", recipe=small(), threads=1)
    assert not (tmp_path / "run").exists()


def test_missing_data_are_never_invented(trained: nn.Module, tmp_path: Path) -> None:
    torch.save(trained, tmp_path / "model.pt")
    with pytest.raises(InputError, match="calibration data are never invented"):
        edgekd.compress(tmp_path / "model.pt", "raspberry-pi-5", inputs=["image:1x1x28x28"], output=tmp_path / "run")


def test_a_stage_budget_out_of_reach_keeps_the_finished_stages(example: Path, tmp_path: Path) -> None:
    cut = '[[stage]]\nkind = "prune"\ngranularity = 8\n'
    recipe = small(f"{cut}to_macs = 0.7\n\n{cut}to_macs = 0.01\n")
    with pytest.raises(BudgetMissed, match="is left"):
        edgekd.compress(example / "model.pt", "raspberry-pi-5", output=tmp_path / "run", recipe=recipe, threads=1)
    assert list((tmp_path / "run" / "stages").glob("prune-*"))
    assert not (tmp_path / "run" / "artifact").exists()


def with_teacher(example: Path, teacher: nn.Module, folder: Path) -> Result | list[Result]:
    torch.save(teacher, folder / "teacher.pt")
    return edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=folder / "run", recipe=small(), threads=1,
        teacher=folder / "teacher.pt",
    )  # fmt: skip


def test_another_teacher_is_another_result(example: Path, trained: nn.Module, tmp_path: Path) -> None:
    keys = []
    for scale in (1.0, 2.0):
        teacher = copy.deepcopy(trained)
        teacher.classifier.weight.data *= scale  # type: ignore[union-attr]
        made = with_teacher(example, teacher, tmp_path)
        assert isinstance(made, Result)
        keys.append({stage["name"]: stage["key"] for stage in made.report["stages"]})
    assert keys[0]["prune"] == keys[1]["prune"] and keys[0]["distill"] != keys[1]["distill"]


def test_a_teacher_with_other_outputs_is_refused(example: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outputs of the teacher"):
        with_teacher(example, nn.Sequential(nn.Flatten(), nn.Linear(784, 7)), tmp_path)


def test_stages_run_alone_one_after_the_other(example: Path, tmp_path: Path) -> None:
    """A run directory is a model: its last state goes on where it was, with the uncompressed network as teacher."""
    first = small(SMALL[: SMALL.index('[[stage]]\nkind = "distill"')])
    pruned = edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=tmp_path / "pruned", recipe=first, threads=1
    )
    rest = small("[data]\ncalibration = 64\nvalidation = 0.1\n" + SMALL[SMALL.index('[[stage]]\nkind = "distill"') :])
    made = edgekd.compress(tmp_path / "pruned", "raspberry-pi-5", output=tmp_path / "rest", recipe=rest, threads=1)
    assert isinstance(made, Result) and isinstance(pruned, Result)
    assert [stage["name"] for stage in made.report["stages"]] == ["baseline", "distill", "quantize"]
    assert made.report["stages"][0]["figures"]["macs"] == pruned.report["final"]["figures"]["macs"]
    assert made.report["stages"][0]["figures"]["score"] == pruned.report["final"]["figures"]["score"]
    learned = prepare(Request(example / "model.pt", ("raspberry-pi-5",), teacher=tmp_path / "rest", threads=1))
    (make,) = learned.contexts[0].teachers.values()
    teacher = make(learned.contexts[0].parts.train)
    assert isinstance(teacher, LiveTeacher)
    (folder,) = (tmp_path / "rest" / "stages").glob("distill-*")  # the last network before quantize
    wanted = load_file(folder / "weights.safetensors")
    assert all((wanted[name] == tensor).all() for name, tensor in teacher.network.state_dict().items())


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        edgekd.compress(tmp_path, "raspberry-pi-5", output=tmp_path / "run")


def test_external_weights_come_along(example: Path, tmp_path: Path) -> None:
    plain = edgekd.compress(
        example / "model.pt", "raspberry-pi-5", output=tmp_path / "plain", recipe="export", threads=1
    )
    assert isinstance(plain, Result)
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save(
        onnx.load(str(plain.artifact / "model.onnx")), str(folder / "model.onnx"), save_as_external_data=True,
        location="weights.bin", size_threshold=0,
    )  # fmt: skip
    (folder / "model.toml").write_text((example / "model.toml").read_text().replace('data = "images.npz"', ""))
    made = edgekd.compress(
        folder / "model.onnx", "raspberry-pi-5", example / "images.npz", output=tmp_path / "run", threads=1
    )
    assert isinstance(made, Result) and {path.name for path in made.artifact.iterdir()} >= {"model.onnx"}
    assert made.report["stages"][0]["figures"]["score"] == plain.report["final"]["figures"]["score"]
