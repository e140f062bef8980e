import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgekd
from edgekd.data import Dataset
from edgekd.errors import InputError
from edgekd.training.fresh import fresh


def test_a_network_comes_back_trained_and_the_same_call_goes_on(
    trained: nn.Module, fashion: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    student = fresh(trained)
    before = copy.deepcopy(student.state_dict())
    said: list[str] = []
    given: dict[str, Any] = {
        "output": tmp_path / "run",
        "epochs": 1,
        "optimizer": "adamw",
        "threads": 1,
        "say": said.append,
    }
    made = edgekd.distill(student, trained, fashion, ["kl", {"kind": "hint", "weight": 0.5}], **given)
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert not made.training and any(not torch.equal(before[n], t) for n, t in made.state_dict().items())
    first = len(said)
    again = edgekd.distill(student, trained, fashion, ["kl", {"kind": "hint", "weight": 0.5}], **given)
    assert len(said) == first  # nothing was trained again
    assert all(
        torch.equal(one, other)
        for one, other in zip(made.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_function_may_be_the_teacher_and_labels_are_optional(
    trained: nn.Module, fashion: Dataset, tmp_path: Path
) -> None:
    data = Dataset(inputs={"image": fashion.inputs["image"][:400]})
    made = edgekd.distill(trained, constant, data, ["kl"], output=tmp_path / "run", epochs=3, threads=1)
    with torch.no_grad():
        answers = made(torch.randn(8, 1, 28, 28)).argmax(1)
    assert (answers == 3).all()


def constant(arrays: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Always class 3."""
    return np.tile(np.eye(10, dtype=np.float32)[3] * 9, (len(arrays["image"]), 1))


def test_a_wrong_setting_is_one_message(trained: nn.Module, fashion: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no loss 'kll'; did you mean 'kl'"):
        edgekd.distill(trained, None, fashion, ["kll"], output=tmp_path / "run")
    with pytest.raises(InputError, match="epoch"):
        edgekd.distill(trained, None, fashion, epoch=3, output=tmp_path / "run")
