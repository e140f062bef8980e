"""A request names a teacher of its own kind: another file, another factory, or a run."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.data import Dataset
from edgekd.errors import InputError
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.signature import parse_inputs
from edgekd.models.source import Opening
from edgekd.request import Prepared, Request, prepare

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
        build = prepared.contexts[0].teacher
        assert build is not None and isinstance(build(), ResNet8) and prepared.teacher is not None


def test_a_teacher_of_weights_asks_for_its_own_factory(here: Path, fashion: Dataset) -> None:
    with pytest.raises(InputError, match=r"^the teacher: .* weights only .* --teacher-model my_package"):
        asked(fashion, "teacher_weights.pt")


def test_a_folder_that_is_no_run_is_no_teacher(here: Path, fashion: Dataset) -> None:
    with pytest.raises(InputError, match="the teacher: .* is a folder"):
        asked(fashion, ".")
