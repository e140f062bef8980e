"""A request is read and checked before any work: data, targets, and a teacher of its own kind."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.artifact import _samples
from edgekd.data import Dataset
from edgekd.errors import InputError
from edgekd.evaluate import deciding_metric
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.signature import parse_inputs
from edgekd.models.source import Opening
from edgekd.recipe import ExportSettings, Recipe, parse_recipe
from edgekd.request import Prepared, Request, prepare
from edgekd.stages import KINDS, STAGES
from edgekd.stages.distill.settings import DistillSettings
from edgekd.teachers.live import LiveTeacher
from edgekd.verbs.compress import execute
from edgekd.verbs.subject import open_subject

TARGETS = ("generic-x86",)
INPUTS = '[[inputs]]\nname = "image"\nshape = ["batch", 1, 28, 28]\n'


def recipe(text: str) -> Recipe:
    return parse_recipe(text, KINDS)


def check(prepared: Prepared, settings: DistillSettings) -> None:
    STAGES[DistillSettings].check(settings, prepared.opened.state, prepared.contexts[0])


@pytest.mark.parametrize("named_by", ["request", "recipe", "sidecar"])
def test_a_set_brings_its_preprocessing_whoever_names_it(example: Path, tmp_path: Path, named_by: str) -> None:
    (tmp_path / "model.pt").write_bytes((example / "model.pt").read_bytes())
    name = "fashion-mnist"
    (tmp_path / "model.toml").write_text(f'data = "{name}"\n{INPUTS}' if named_by == "sidecar" else INPUTS)
    source = recipe(f'[data]\nsource = "{name}"') if named_by == "recipe" else recipe("")
    prepared = prepare(
        Request(tmp_path / "model.pt", TARGETS, name if named_by == "request" else None, recipe=source, threads=1)
    )
    assert prepared.opened.state.signature.preprocessing is not None
    assert not any("preprocessing" in remark for remark in prepared.remarks)


def test_bytes_without_preprocessing_are_remarked(example: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes((example / "model.pt").read_bytes())
    (tmp_path / "model.toml").write_text(INPUTS)
    made = prepare(Request(tmp_path / "model.pt", TARGETS, example / "images.npz", recipe=recipe(""), threads=1))
    assert any("bytes of image go in as they are" in remark for remark in made.remarks)
    made = prepare(Request(example / "model.pt", TARGETS, recipe=recipe(""), threads=1))
    assert made.remarks == ()


def test_the_sidecar_says_whose_its_data_are(example: Path, tmp_path: Path) -> None:
    for name in ("model.pt", "images.npz"):
        (tmp_path / name).write_bytes((example / name).read_bytes())
    said = 'data_origin = "https://example.org"\ndata_licence = "CC-BY-4.0"\n'
    (tmp_path / "model.toml").write_text(said + (example / "model.toml").read_text())
    data = prepare(Request(tmp_path / "model.pt", TARGETS, recipe=recipe(""), threads=1)).dataset
    assert (data.provenance, data.licence) == ("https://example.org", "CC-BY-4.0")
    private = tmp_path / "private.npz"
    private.write_bytes((example / "images.npz").read_bytes())
    made = Request(tmp_path / "model.pt", TARGETS, private, recipe=recipe(""), output=tmp_path / "run", threads=1)
    assert prepare(made).dataset.licence == "not stated"
    execute(prepare(made))
    again = prepare(Request(tmp_path / "run", TARGETS, recipe=recipe(""), threads=1))
    assert (again.dataset.licence, again.dataset.origin) == ("not stated", "private.npz")


@pytest.mark.parametrize(
    ("data", "words"), [("os:system", "names no code"), ("../images.npz", "beside the sidecar"), ("/tmp", "--data")]
)
def test_wrong_data_of_a_sidecar_are_followed_by_nobody_and_harm_nobody_else(
    example: Path, tmp_path: Path, data: str, words: str
) -> None:
    (tmp_path / "model.pt").write_bytes((example / "model.pt").read_bytes())
    (tmp_path / "model.toml").write_text(f'data = "{data}"\ndata_licence = "MIT"\n{INPUTS}')
    with pytest.raises(InputError, match=words):
        prepare(Request(tmp_path / "model.pt", TARGETS, recipe=recipe(""), threads=1))
    made = prepare(Request(tmp_path / "model.pt", TARGETS, example / "images.npz", recipe=recipe(""), threads=1))
    assert (made.dataset.origin, made.dataset.licence) == ("images.npz", "not stated")
    opening = Opening()
    given = str(example / "images.npz")
    assert open_subject(tmp_path / "model.pt", given, opening, 1).data == given
    with pytest.raises(InputError, match=words):
        open_subject(tmp_path / "model.pt", None, opening, 1)


@pytest.mark.parametrize(
    ("licence", "open_one"),
    [("MIT", True), ("CC-BY-4.0", True), ("not permitted", False), ("CC-BY-NC-ND-4.0", False), ("not stated", False)],
)
def test_samples_travel_under_open_licences_only(
    network: nn.Module, fashion: Dataset, licence: str, open_one: bool
) -> None:
    made = prepare(Request(network, TARGETS, replace(fashion, licence=licence), recipe=recipe(""), threads=1))
    part = made.contexts[0].parts.evaluation
    _, origin = _samples(part, made.opened.state.signature, ExportSettings(), inside=False)
    assert origin.startswith("synthetic") is not open_one
    assert not open_one or origin == f"Fashion-MNIST ({licence}; not stated)"


def test_calibration_leaves_half_to_training(network: nn.Module, fashion: Dataset) -> None:
    few = Dataset({"image": fashion.inputs["image"][:700]}, targets=fashion.targets[:700])  # type: ignore[index]
    made = prepare(Request(network, TARGETS, few, threads=1))
    assert made.contexts[0].parts.sizes()["calibration"] == 266 == made.contexts[0].parts.sizes()["train"]
    assert any("calibration takes 266 samples, not 512" in remark for remark in made.remarks)
    quantized = prepare(Request(network, TARGETS, few, recipe="quantize", threads=1))
    assert len(quantized.contexts[0].parts.calibration) == 512 and not any("takes" in r for r in quantized.remarks)
    check(made, DistillSettings())
    assert "266 samples in batches of 66" in STAGES[DistillSettings].describe(DistillSettings(), made.contexts[0])


class Masks(nn.Module):
    """One or two images, a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, a: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        return self.conv(a if b is None else a + b)


def _saved(folder: Path, network: nn.Module, task: str, inputs: tuple[str, ...], data: dict[str, np.ndarray]) -> Path:
    tables = [f'[[inputs]]\nname = "{name}"\nshape = ["batch", 1, 8, 8]\n' for name in inputs]
    (folder / "model.toml").write_text("\n".join([f'task = "{task}"\ndata = "data.npz"', *tables]))
    np.savez(folder / "data.npz", **data)  # type: ignore[arg-type]
    torch.save(network, folder / "model.pt")
    return folder / "model.pt"


@pytest.mark.parametrize(
    ("inputs", "labelled", "words"),
    [(("a",), True, "and not its targets"), (("a", "b"), False, "the other of a, b"), (("a",), False, None)],
)
def test_augmentations_that_part_what_belongs_together_are_refused(
    tmp_path: Path, inputs: tuple[str, ...], labelled: bool, words: str | None
) -> None:
    images = np.zeros((300, 1, 8, 8), np.float32)
    data = dict.fromkeys(inputs, images) | ({"y": np.zeros((300, 8, 8), np.uint8)} if labelled else {})
    body: nn.Module = nn.Conv2d(1, 2, 1)
    request = Request(body, TARGETS, threads=1)
    if len(inputs) == 1:
        request = replace(request, model=_saved(tmp_path, body, "segmentation", inputs, data))
    else:
        request = replace(request, model=Masks(), data=Dataset(data))
    asked = recipe('[data]\ncalibration = 64\naugmentations = ["shift"]')
    prepared = prepare(replace(request, recipe=asked))
    if words is None:
        return check(prepared, DistillSettings(batch_size=64))
    with pytest.raises(InputError, match=words):
        check(prepared, DistillSettings(batch_size=64))


@pytest.mark.parametrize("anomalous_held_out", [True, False])
def test_one_class_in_validation_is_judged_by_fidelity(tmp_path: Path, anomalous_held_out: bool) -> None:
    """Training samples are normal, as MVTec's are; only the held-out half has both."""
    held_out = np.arange(300) >= 200
    targets = (np.arange(300) % 2) * held_out * anomalous_held_out
    images = np.random.default_rng(0).random((300, 1, 8, 8)).astype(np.float32)
    data = {"x": images, "y": targets, "held_out": held_out}
    model = _saved(tmp_path, nn.Conv2d(1, 1, 1), "anomaly", ("x",), data)
    request = Request(model, TARGETS, recipe=recipe("[data]\ncalibration = 64"), threads=1)
    if not anomalous_held_out:
        with pytest.raises(InputError, match=r"evaluation part \(100 samples\) has normal or anomalous samples only"):
            prepare(request)
        return
    made = prepare(request)
    context = made.contexts[0]
    assert context.metric.name == "auc" and any("sqnr decides there" in remark for remark in made.remarks)
    assert deciding_metric(context.metric, context.parts.validation).name == "sqnr"
    assert deciding_metric(context.metric, context.parts.evaluation).name == "auc"


def test_targets_are_held_against_the_outputs_before_any_work(network: nn.Module, fashion: Dataset) -> None:
    wrong = replace(fashion, targets=fashion.targets + 1)  # type: ignore[operator]
    with pytest.raises(InputError, match=r"Fashion-MNIST, a part.*output \('N', 10\).*the targets hold \[10\]"):
        prepare(Request(network, TARGETS, wrong, recipe=recipe(""), threads=1))


FACTORIES = """\
from torch import nn
from edgekd.models.networks.resnet8 import ResNet8
def student():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
def teacher():
    return ResNet8((8, 8, 8), num_classes=10, in_channels=1)
"""
IMAGE = parse_inputs(["image:Nx1x28x28"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder: a student's weights, a teacher's, and what builds them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "some_nets.py").write_text(FACTORIES)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).state_dict(), tmp_path / "student.pt")
    teacher = ResNet8((8, 8, 8), num_classes=10, in_channels=1)
    torch.save(teacher.state_dict(), tmp_path / "teacher_weights.pt")
    torch.save(teacher, tmp_path / "teacher.pt")
    return tmp_path


def asked(data: Dataset, teacher: str, teacher_factory: str | None = None) -> Prepared:
    opening = Opening(factory="some_nets:student", inputs=IMAGE)
    request = Request(
        "student.pt", ("raspberry-pi-5",), data, opening=opening, teacher=teacher, teacher_factory=teacher_factory
    )
    return prepare(request)


def test_a_teacher_has_a_factory_of_its_own(here: Path, fashion: Dataset) -> None:
    for teacher, factory in (("teacher.pt", None), ("teacher_weights.pt", "some_nets:teacher")):
        prepared = asked(fashion, teacher, factory)
        (build,) = prepared.contexts[0].teachers.values()
        made = build(prepared.contexts[0].parts.train)
        assert isinstance(made, LiveTeacher) and isinstance(made.network, ResNet8)
        assert made.identity == prepared.teachers[made.name].identity


def test_a_teacher_of_weights_asks_for_its_own_factory(here: Path, fashion: Dataset) -> None:
    with pytest.raises(InputError, match=r"^the teacher: .* weights only .* --teacher-model my_package"):
        asked(fashion, "teacher_weights.pt")


def test_a_folder_that_is_no_run_is_no_teacher(here: Path, fashion: Dataset) -> None:
    with pytest.raises(InputError, match="the teacher: .* is a folder"):
        asked(fashion, ".")


def test_quantization_is_simulated_where_a_later_stage_trains(example: Path) -> None:
    prune, quantize, distill = (f'[[stage]]\nkind = "{kind}"\n' for kind in ("prune", "quantize", "distill"))
    for text, simulated in ((quantize + distill, True), (distill + quantize, False), (quantize, False)):
        asked = recipe(f"{prune}to_macs = 0.6\n{text}")
        made = prepare(Request(example / "model.pt", TARGETS, recipe=asked, threads=1))
        (settings,) = (one for one in made.recipe.to_json()["stages"] if one["kind"] == "quantize")
        assert settings["simulate"] is simulated
        assert [one.kind for one in made.recipe.stages] == [one.kind for one in asked.stages]
