from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses.step import Answer
from edgekd.teachers import CachedTeacher, FunctionTeacher, Text, finite, manifest, texts_of, verify

from .helpers import SAMPLES, Network, batch_of, make_part

LIVE = Network()


def even(sample_ids: np.ndarray, answer: Answer) -> np.ndarray:
    return sample_ids % 2 == 0


def sure(sample_ids: np.ndarray, answer: Answer) -> np.ndarray:
    return (answer.output().softmax(1).amax(1) > 0.2).numpy()


def broken(sample_ids: np.ndarray, answer: Answer) -> np.ndarray:
    raise KeyError("x")


def counting(sample_ids: np.ndarray, answer: Answer) -> np.ndarray:
    return sample_ids


def filled(folder: Path) -> CachedTeacher:
    teacher = CachedTeacher.open(folder, make_part(), Network())
    teacher.fill(make_part(), 8, taps=("hidden",))
    return teacher


def test_what_fails_a_check_is_dropped_and_written_down(tmp_path: Path) -> None:
    teacher, part = filled(tmp_path), make_part()
    inputs, ids = batch_of(part, list(range(SAMPLES)))
    before = teacher.answer(inputs, sample_ids=ids, taps=("hidden",))
    assert teacher.kept(ids) is None
    kept = verify(teacher, sure, batch=7)
    np.testing.assert_array_equal(kept, sure(np.arange(SAMPLES), before))
    assert 0 < kept.sum() < SAMPLES
    both = verify(teacher, even)
    np.testing.assert_array_equal(both, kept & (np.arange(SAMPLES) % 2 == 0))
    for one in (teacher, CachedTeacher.open(tmp_path, part, Network())):
        after = one.answer(inputs, sample_ids=ids, taps=("hidden",))
        mask = one.kept(ids)
        assert mask is not None
        np.testing.assert_array_equal(mask, both)
        assert torch.equal(after.output()[mask], before.output()[mask])
        assert not after.output()[~mask].any() and not after.features["hidden"][~mask].any()
    content = manifest.read_manifest(tmp_path)
    assert [entry["check"] for entry in content["checks"]] == ["sure", "even"]
    assert [entry["checked"] for entry in content["checks"]] == [SAMPLES, kept.sum()]
    assert len(content["dropped"]) == SAMPLES - both.sum()


def test_dropped_answers_are_not_asked_for_again(tmp_path: Path) -> None:
    filled(tmp_path)
    live = Network()
    teacher = CachedTeacher.open(tmp_path, make_part(), live)
    verify(teacher, even)
    teacher.answer(batch_of(make_part(), [1, 2])[0], sample_ids=torch.tensor([1, 2]))
    assert live.batches == []


def test_what_has_no_answer_yet_is_not_looked_at(tmp_path: Path) -> None:
    teacher = CachedTeacher.open(tmp_path, make_part(), Network())
    assert verify(teacher, even).all()
    inputs, ids = batch_of(make_part(), [1, 2, 3])
    teacher.answer(inputs, sample_ids=ids)
    assert np.flatnonzero(~verify(teacher, even)).tolist() == [1, 3]


def test_programs_that_do_not_run_are_dropped(tmp_path: Path) -> None:
    def write(arrays: dict[str, np.ndarray]) -> list[str]:
        return ["1 + 1" if row[0] > 0 else "1 +" for row in arrays["x"]]

    def compiles(sample_ids: np.ndarray, answer: Answer) -> np.ndarray:
        def valid(text: str) -> bool:
            try:
                compile(text, "answer", "eval")
            except SyntaxError:
                return False
            return True

        return np.array([valid(text) for text in texts_of(answer.output())])

    live = FunctionTeacher(write, licence="MIT", source="a test")
    teacher = CachedTeacher.open(tmp_path, make_part(), live, forms={"output": Text()})
    teacher.fill(make_part(), 8)
    np.testing.assert_array_equal(verify(teacher, compiles), make_part().inputs()["x"][:, 0] > 0)


def test_a_check_that_cannot_work_is_named(tmp_path: Path) -> None:
    teacher = filled(tmp_path)
    with pytest.raises(InputError, match="the check broken fails: KeyError"):
        verify(teacher, broken)
    with pytest.raises(InputError, match=r"the check counting gives int64 \(40,\) for 40 answers"):
        verify(teacher, counting)
    assert manifest.read_manifest(tmp_path)["checks"] == []


def test_finite_looks_at_outputs_and_features() -> None:
    answer = Answer({"a": torch.tensor([[1.0], [torch.inf], [2.0]])}, {"b": torch.tensor([1.0, 1.0, torch.nan])})
    assert finite(np.arange(3), answer).tolist() == [True, False, False]
