import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgekd
from edgekd.data import Dataset, Part
from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec
from edgekd.teachers import (
    CachedTeacher,
    FunctionTeacher,
    PrefetchedTeacher,
    StoredTeacher,
    Teacher,
    store_outputs,
    verify,
)
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


def rows_of_one_class(count: int) -> np.ndarray[Any, Any]:
    """Return inputs (N, 10) that are one-hot, so that a row of answers can be told from its input."""
    return np.eye(10, dtype=np.float32)[np.arange(count) % 10] * 3


def turned(arrays: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Answer with the class behind the input's own."""
    return np.roll(arrays["x"], 1, axis=1) * 5


@pytest.mark.parametrize("kind", ["stored", "cached", "prefetched"])
def test_teacher_objects_answer_the_samples_that_are_trained_on(kind: str, tmp_path: Path) -> None:
    data = Dataset(inputs={"x": rows_of_one_class(200)})
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 10)),))
    whole = Part(data, np.arange(200), signature)
    function = FunctionTeacher(turned, licence="MIT", source="a test")
    teacher: Teacher
    if kind == "stored":
        outputs = {"output": turned(data.inputs)}
        store_outputs(tmp_path / "rows", outputs, name="rows", licence="MIT", source="a test", data=data.digest())
        teacher = StoredTeacher.of(tmp_path / "rows", whole)
    elif kind == "cached":
        teacher = CachedTeacher.open(tmp_path / "cache", whole, function)
        teacher.fill(whole)
    else:
        teacher = PrefetchedTeacher(
            function, lambda ids: {"x": torch.from_numpy(whole.inputs(ids.numpy())["x"])}, max_age_s=9
        )
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(10, 10))

    def made() -> nn.Module:
        return edgekd.distill(
            student,
            teacher,
            data,
            ["kl"],
            output=tmp_path / "run",
            epochs=30,
            threads=1,
            inputs=["x:1x10"],
            batch_size=16,
        )

    if kind == "prefetched":
        with pytest.raises(InputError, match="answered ahead for other samples"):
            made()
        return
    answers = made()(torch.from_numpy(data.inputs["x"])).argmax(1)
    assert (answers.numpy() == (np.arange(200) + 1) % 10).all()


def test_dropped_answers_train_another_student(tmp_path: Path) -> None:
    data = Dataset(inputs={"x": rows_of_one_class(200)})
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(10, 10))

    def made() -> torch.Tensor:
        network = edgekd.distill(
            student, turned, data, ["kl"], output=tmp_path / "run", epochs=2, threads=1, inputs=["x:1x10"],
            batch_size=16, teacher_cache="full",
        )  # fmt: skip
        return network[0].weight.detach()  # type: ignore[index, union-attr]

    first = made()
    assert torch.equal(made(), first)
    (folder,) = (tmp_path / "run" / "teachers").iterdir()
    part = Part(data, np.arange(200), Signature(inputs=(TensorSpec(name="x", shape=("batch", 10)),)))
    kept = verify(CachedTeacher.of(folder, part), lambda ids, answer: answer.output().argmax(1).numpy() != 3)
    assert not kept.all()
    assert not torch.equal(made(), first)


class Tagger(nn.Module):
    """A class for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(tokens))


def test_a_network_in_memory_may_be_for_another_task(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    line = Signature(inputs=(TensorSpec(name="x", shape=("batch", 8)),), task="regression")
    values = Dataset({"x": x}, x[:, :1] * 2)
    student, teacher = nn.Sequential(nn.Linear(8, 1)), nn.Sequential(nn.Linear(8, 1))
    given: dict[str, Any] = {"threads": 1, "epochs": 20}
    made = edgekd.distill(student, teacher, values, "mse", signature=line, output=tmp_path / "a", task=1.0, **given)
    with torch.no_grad():
        found, before = ((one(torch.from_numpy(x))[:, 0].numpy() - x[:, 0] * 2).std() for one in (made, student))
    assert found < before / 2
    tokens = np.random.default_rng(0).integers(0, 20, (200, 6))
    tags = Signature(inputs=(TensorSpec(name="tokens", shape=("batch", 6), dtype="int64"),), task="tokens")
    known = edgekd.distill(
        Tagger(), None, edgekd.Dataset({"tokens": tokens}, tokens % 3), [], signature=tags, output=tmp_path / "b", task=1.0,
        learning_rate=1.0, **given,
    )  # fmt: skip
    assert (known(torch.from_numpy(tokens)).argmax(2).numpy() == tokens % 3).mean() > 0.8
