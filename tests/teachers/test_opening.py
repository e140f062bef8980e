"""What a person names as teacher, and whose its answers are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.data import Dataset, Part
from edgekd.models.signature import Signature, TensorSpec
from edgekd.teachers.opening import TeacherSource, open_teachers
from edgekd.teachers.teacher import Teacher

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 6)),))
PART = Part(Dataset({"x": np.zeros((4, 6), np.float32)}), np.arange(4), SIGNATURE)


def made(source: TeacherSource) -> Teacher:
    (teacher,) = open_teachers(source, SIGNATURE).values()
    return teacher.make(PART)


def shout(arrays: Mapping[str, Any]) -> Any:
    return arrays["x"][:, :3]


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_a_sidecar_says_whose_a_network_s_answers_are(tmp_path: Path, form: str) -> None:
    network = nn.Sequential(nn.Linear(6, 3)).eval()
    path = tmp_path / ("net.pt" if form == "torch" else "net.onnx")
    if form == "torch":
        torch.save(network, path)
    else:
        torch.onnx.export(network, (torch.zeros(2, 6),), path, input_names=["x"], dynamo=True)
    teacher = made(path)
    assert (teacher.licence, teacher.source) == ("not stated", path.name)
    (tmp_path / "net.toml").write_text('licence = "Apache-2.0"\norigin = "https://example.org/net"\n')
    teacher = made(path)
    assert (teacher.licence, teacher.source) == ("Apache-2.0", "https://example.org/net")


def test_a_function_says_it_by_its_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(shout).licence == "not stated"
    monkeypatch.setattr(shout, "licence", "MIT", raising=False)
    assert made(shout).licence == "MIT"
    assert made(f"{__name__}:shout").source == f"{__name__}:shout"


def test_teachers_of_one_name_are_numbered() -> None:
    assert list(open_teachers([shout, shout, nn.Linear(6, 3)], SIGNATURE)) == ["shout", "shout#2", "linear"]
    assert open_teachers(None, SIGNATURE) == {}
