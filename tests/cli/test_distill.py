"""`edgekd distill`, and recipes with distillation: teachers of every kind, the cache, phases, and what is refused."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.data.sources import load_npz
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, tensor_spec
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.teachers.stored import store_outputs

from .conftest import Cli, Outcome

CLASSES, SAMPLES = 4, 320
SIDECAR = 'data = "data.npz"\n[[inputs]]\nname = "x"\nshape = ["batch", 6]\n'
TEACHER = """
import numpy as np

def answer(arrays):
    with open("asked.txt", "a") as file:
        file.write("x")
    return arrays["x"][:, :4] * 3
"""


def network(width: int, classes: int = CLASSES, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))


def samples(count: int = SAMPLES, **further: Any) -> dict[str, Any]:
    x = np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32)
    return {"x": x, "y": x[:, :CLASSES].argmax(1), **further}


@pytest.fixture
def cli(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Run command lines in a folder with a student, two teachers, their data, and a teacher made by code."""
    torch.save(network(8), "student.pt")
    Path("student.toml").write_text(SIDECAR)
    for seed, name in enumerate(("big", "bigger"), 1):
        torch.save(network(12 * seed, seed=seed), f"{name}.pt")
    np.savez("data.npz", **samples())
    Path("teaching.py").write_text(TEACHER)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(sys.modules, "teaching", raising=False)
    yield cli
    sys.modules.pop("teaching", None)


def distill(cli: Cli, *options: object, student: str = "student.pt") -> Outcome:
    common = ("-t", "generic-x86", "-o", "run", "--epochs", 1, "--threads", 1)
    return cli("distill", student, *common, *options)


def notes(output: str = "run") -> dict[str, Any]:
    (stage,) = [
        one for one in json.loads(Path(output, "report.json").read_text())["stages"] if one["name"] == "distill"
    ]
    return stage["notes"]  # type: ignore[no-any-return]


def test_losses_and_two_teachers_that_agree_on_a_mean(cli: Cli) -> None:
    outcome = distill(
        cli, "--teacher", "big.pt", "--teacher", "bigger.pt", "--committee", "mean", "--loss", "kl:temperature=3",
        "--loss", "hint:weight=0.1,taps.1=bigger/1", "--task", 0.2,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert set(notes()["terms"][0]) == {"task", "kl", "hint"} and set(notes()["teachers"]) == {"big", "bigger"}
    assert "towards 0.2 task + 0.7 kl + 0.1 hint" in " ".join(outcome.err.split())


def written(width: int, path: str) -> None:
    """Write a network as an ONNX file."""
    signature = Signature(inputs=(tensor_spec("x", (6,), "float32", "test"),))
    write_onnx(network(width, seed=1), learn_outputs(network(width, seed=1), signature), Path(path))


def stored(folder: str) -> None:
    """Write a teacher's outputs to all samples as a folder."""
    data = load_npz(Path("data.npz"), Signature(inputs=(tensor_spec("x", (6,), "float32", "test"),)))
    outputs = {"output": 3 * samples()["x"][:, :CLASSES]}
    store_outputs(Path(folder), outputs, name="far", licence="MIT", source="a test", data=data.digest())


def test_teachers_are_files_functions_and_stored_outputs(cli: Cli) -> None:
    written(12, "wide.onnx")
    stored("answers")
    teachers = ("wide.onnx", "teaching:answer", "answers", "big.pt")
    given = [word for teacher in teachers for word in ("--teacher", teacher)]
    outcome = distill(cli, *given, "--committee", "mean", "--epochs", 2)
    assert outcome.code == 0, outcome.err
    assert notes()["loss"][1] < notes()["loss"][0] and Path("asked.txt").exists()


def test_a_full_cache_asks_the_teacher_no_second_time(cli: Cli) -> None:
    options = ("--teacher", "teaching:answer", "--cache", "full", "--teacher-cache", "kept")
    first = distill(cli, *options, "--batch-size", 32)
    assert first.code == 0, first.err
    asked = len(Path("asked.txt").read_text())
    assert asked > 4
    again = distill(cli, *options, "--batch-size", 32, "--learning-rate", 0.01)
    assert again.code == 0, again.err
    assert len(Path("asked.txt").read_text()) == asked + 1, "only the check before any work asks it"
    Path("teaching.py").write_text(TEACHER.replace("* 3", "* 2"))
    sys.modules.pop("teaching")
    refused = distill(cli, *options)
    assert refused.code == 2 and "another teacher" in last(refused)


PHASES = """
[data]
calibration = 32
[[stage]]
kind = "distill"
epochs = 1
[[stage.phases]]
name = "body"
losses = [{ kind = "hint", taps = { "1" = "1" } }]
freeze = ["4"]
data = "more.npz"
[[stage.phases]]
name = "head"
task = 0.5
epochs = 2
losses = ["kl"]
freeze = ["0", "2"]
"""


def compress(cli: Cli, recipe: str, *options: object, command: str = "compress") -> Outcome:
    Path("recipe.toml").write_text(recipe)
    return cli(command, "student.pt", "-t", "generic-x86", "-o", "run", "--recipe", "recipe.toml", *options)


def test_phases_have_their_own_losses_data_and_frozen_modules(cli: Cli) -> None:
    np.savez("more.npz", x=np.random.default_rng(1).standard_normal((64, 6)).astype(np.float32))
    planned = compress(cli, PHASES, "--teacher", "big.pt", command="plan")
    assert planned.code == 0, planned.err
    shown = " ".join(planned.out.split())
    assert "train 3 epochs" in shown and "body: 1 hint (4 frozen); head: 0.5 task + 0.7 kl (0, 2 frozen)" in shown
    outcome = compress(cli, PHASES, "--teacher", "big.pt")
    assert outcome.code == 0, outcome.err
    assert notes()["phases"] == ["body", "head", "head"]
    assert [sorted(terms) for terms in notes()["terms"]] == [["hint"], ["kl", "task"], ["kl", "task"]]


def test_one_of_several_teachers_is_named_where_no_committee_is(cli: Cli) -> None:
    outcome = distill(cli, "--teacher", "big.pt", "--teacher", "bigger.pt")
    assert outcome.code == 0 and "learn from big alone, not from bigger" in outcome.err


def test_groups_are_those_of_one_process(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekd.processes.count", lambda: 2)
    np.savez("grouped.npz", **samples(groups=np.arange(SAMPLES) // 4))
    recipe = '[data]\nsource = "grouped.npz"\ncalibration = 32\n[[stage]]\nkind = "distill"\ngradient_filter = "agreement-mask"\n'
    outcome = compress(cli, recipe, "--teacher", "big.pt")
    assert outcome.code == 2 and "agreement-mask compares the groups of one process" in outcome.err


def last(outcome: Outcome) -> str:
    """Return the last line of stderr, which has to be the one message."""
    lines = [line for line in outcome.err.splitlines() if line.startswith("edgekd: ")]
    assert len(lines) == 1, outcome.err
    return lines[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--loss", "kll"), "no loss 'kll'; did you mean 'kl'?"),
        (("--loss", "hint:taps.body=1"), "no module `body`; nearest"),
        (("--loss", "hint:taps.1=layer3"), "no module `layer3`; nearest"),
        (("--teacher", "seven.pt"), "the outputs of the teacher seven have the shape (7,), the student's (4,)"),
        (("--loss", "kl:output=logits"), "no output 'logits' in both; the student has output, the teacher big output"),
        (("--loss", "attention-kl:taps.1=1"), "attention-kl: 1~1: "),
        (("--loss", "temporal-difference:taps.1=1"), "1~1: vectors (8,) have no time; choose other taps"),
        (("--loss", "kl:temprature=3"), "has no setting 'temprature'; did you mean 'temperature'?"),
        (("--loss", "rkd", "--freeze", "nowhere"), "no module `nowhere`; nearest"),
        (("--data", "one.npz"), "has one class only"),
        (("--data", "empty.npz"), "hold no sample"),
        (("--data", "unlabelled.npz", "--loss", "dkd"), "dkd needs labels and the data have none"),
        (("--data", "unlabelled.npz", "--loss", "kl:weight=0"), "nothing is minimized"),
        (("--teacher", "teaching:nothing"), "nothing"),
        (("--teacher", "missing.pt"), "the teacher: "),
        (("--teacher", "teaching:answer", "--loss", "hint"), "gives outputs only"),
        (("--teacher", "images.pt"), "the network does not run on x 2x6"),
        (("--loss", "rkd:importance=difficulty"), "rkd is one value a batch, with no samples to weigh"),
        (("--loss", "kl:temperature=abc"), "--loss: temperature: "),
        (("--task", "-1"), "task: its values are at least 0"),
        (("--teacher-cache", "answers"), "say in what form: --cache full, half or top-k"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value)),
)
def test_what_cannot_work_is_refused_before_any_work(cli: Cli, options: tuple[str, ...], words: str) -> None:
    torch.save(network(8, 7), "seven.pt")
    given = samples()
    np.savez("one.npz", x=given["x"], y=np.zeros(SAMPLES, np.int64))
    np.savez("empty.npz", x=given["x"][:0], y=given["y"][:0])
    np.savez("unlabelled.npz", x=given["x"])
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 4)), "images.pt")
    teacher = () if "--teacher" in options else ("--teacher", "big.pt")
    outcome = distill(cli, *options, *teacher)
    assert outcome.code == 2 and words in last(outcome), outcome.err
    assert not Path("run").exists()


def test_gradients_of_groups_need_groups(cli: Cli) -> None:
    recipe = '[data]\ncalibration = 32\n[[stage]]\nkind = "distill"\nepochs = 1\ngradient_filter = "agreement-mask"\n'
    outcome = compress(cli, recipe)
    assert outcome.code == 2 and "agreement-mask needs groups (an array `groups` in the data)" in last(outcome)


def test_a_loss_that_is_no_number_names_its_term(cli: Cli) -> None:
    outcome = distill(cli, "--learning-rate", "1e30", "--epochs", 3, "--loss", "mse")
    assert outcome.code == 3
    assert "the loss is not finite in epoch 1: " in last(outcome) and "mse is " in last(outcome)
    assert "lower learning_rate" in last(outcome)
