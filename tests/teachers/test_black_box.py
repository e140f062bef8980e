import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.errors import InputError, StageError
from edgekd.teachers import CachedTeacher, FunctionTeacher, OnnxTeacher, texts_of
from edgekd.teachers.teacher import Teacher

from .helpers import CLASSES, batch_of, make_part, save_onnx


def double(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return arrays["x"] * 2


def several(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, torch.Tensor]:
    return arrays["x"].sum(1), torch.from_numpy(arrays["x"]) > 0


def wrong_rows(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return arrays["x"][:1]


def not_a_number(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"score": np.where(arrays["x"] > 0, np.nan, 1.0)}


def objects(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([object()] * len(arrays["x"]))


def nothing(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {}


def broken(arrays: dict[str, np.ndarray]) -> np.ndarray:
    raise RuntimeError("the service is away")


def wide(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.ones(len(arrays["x"]), np.longdouble)


def describe(arrays: dict[str, np.ndarray]) -> dict[str, object]:
    return {"text": [f"{value:.0f} cats" for value in arrays["x"][:, 0]], "x": arrays["x"]}


def function(made: object, **other: str) -> FunctionTeacher:
    return FunctionTeacher(made, licence="MIT", source="a test", **other)  # type: ignore[arg-type]


def test_a_function_answers_arrays_tuples_and_texts() -> None:
    inputs, ids = batch_of(make_part(), [3, 1, 2])
    assert torch.equal(function(double).answer(inputs, sample_ids=ids).output(), inputs["x"] * 2)
    assert list(function(several).answer(inputs, sample_ids=None).outputs) == ["output1", "output2"]
    texts = texts_of(function(describe).answer(inputs, sample_ids=ids).outputs["text"])
    assert texts == [f"{value:.0f} cats" for value in inputs["x"][:, 0].tolist()]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (wrong_rows, r"shape \(1, 6\) for 3 samples"),
        (not_a_number, "output score holds NaN"),
        (objects, "dtype object"),
        (nothing, "answers nothing"),
        (broken, "fails: RuntimeError: the service is away"),
        (wide, "torch does not know"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(made: object, message: str) -> None:
    inputs, ids = batch_of(make_part(), [3, 1, 2])
    with pytest.raises(StageError, match=message):
        function(made).answer(inputs, sample_ids=ids)


def test_a_function_is_known_by_its_source_or_its_version() -> None:
    assert function(double).identity == function(double).identity != function(several).identity
    assert function(double, version="2").identity != function(double).identity
    weight = 3.0
    for hidden in (lambda arrays: arrays["x"] * weight, functools.partial(double), np.sin):
        with pytest.raises(InputError, match="with version="):
            function(hidden)
        assert function(hidden, version="1").identity != function(hidden, version="2").identity


def test_functions_of_one_name_in_one_file_are_told_apart() -> None:
    first, second = (lambda arrays: arrays["x"]), (lambda arrays: arrays["x"] * 2)
    inner, other = (lambda arrays: [one - 1 for one in arrays["x"]]), (lambda arrays: [one + 1 for one in arrays["x"]])
    assert len({function(one).identity for one in (first, second, inner, other)}) == 4

    def scaled(scale: float) -> Any:
        def teacher(arrays: dict[str, Any], by: float = scale) -> Any:
            return arrays["x"] * by

        return teacher

    assert function(scaled(2)).identity == function(scaled(2)).identity != function(scaled(3)).identity
    with pytest.raises(InputError, match="defaults that are no plain values"):
        function(scaled(np.ones(3)))  # type: ignore[arg-type]


def test_a_black_box_has_no_features(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx")
    inputs, ids = batch_of(make_part(), [0])
    for teacher in (function(double), OnnxTeacher(tmp_path / "model.onnx")):
        assert not teacher.live_features and teacher.kept(ids) is None
        with pytest.raises(InputError, match="is a black box: it has no features at layer1"):
            teacher.answer(inputs, sample_ids=ids, taps=("layer1",))


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_an_onnx_file_answers_batches_of_any_size(tmp_path: Path, batch: int | str) -> None:
    weight = save_onnx(tmp_path / "model.onnx", batch)
    teacher = OnnxTeacher(tmp_path / "model.onnx", licence="Apache-2.0", source="a test")
    for size in (1, 2, 3, 7):
        inputs, ids = batch_of(make_part(), list(range(size)))
        answer = teacher.answer(inputs, sample_ids=ids)
        assert answer.outputs["logits"].shape == (size, CLASSES)
        torch.testing.assert_close(answer.output(), inputs["x"] @ torch.from_numpy(weight))
    renamed = teacher.answer({"image": inputs["x"]}, sample_ids=ids).output()  # the only input goes to the only one
    assert torch.equal(renamed, answer.output())
    with pytest.raises(InputError, match="takes x; the batch holds a, b"):
        teacher.answer({"a": inputs["x"], "b": inputs["x"]}, sample_ids=ids)
    with pytest.raises(StageError, match="cannot run the model"):
        teacher.answer({"x": inputs["x"][:, :2]}, sample_ids=ids)


def test_an_onnx_file_is_known_by_its_content(tmp_path: Path) -> None:
    save_onnx(tmp_path / "one.onnx")
    save_onnx(tmp_path / "same.onnx")
    save_onnx(tmp_path / "other.onnx", 3)
    one, same, other = (OnnxTeacher(tmp_path / f"{name}.onnx").identity for name in ("one", "same", "other"))
    assert one == same != other
    (tmp_path / "text.onnx").write_text("no model")
    for name in ("text.onnx", "missing.onnx"):
        with pytest.raises(InputError, match=name):
            OnnxTeacher(tmp_path / name)


def test_a_black_box_is_cached_like_any_other(tmp_path: Path) -> None:
    save_onnx(tmp_path / "model.onnx")
    part = make_part()
    inputs, ids = batch_of(part, [5, 2, 8])
    teachers: list[Teacher] = [function(double), OnnxTeacher(tmp_path / "model.onnx")]
    for number, live in enumerate(teachers):
        with CachedTeacher.open(tmp_path / str(number), part, live).cache as cache:
            wanted = CachedTeacher(cache, live).answer(inputs, sample_ids=ids).output()
        assert torch.equal(wanted, live.answer(inputs, sample_ids=ids).output())
        alone = CachedTeacher.open(tmp_path / str(number), part, live)
        alone.live = None
        assert torch.equal(alone.answer(inputs, sample_ids=ids).output(), wanted)
