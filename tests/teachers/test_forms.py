import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from edgekd.errors import InputError, StageError
from edgekd.teachers.forms import AnyForm, Bits, Form, Full, Half, Text, TopK
from edgekd.teachers.text import text_tensor, texts_of
from edgekd.teachers.top_k import dense_logits, split_logits

RANDOM = np.random.default_rng(0)
ALL = slice(None)


def there_and_back(form: Form, rows: np.ndarray, chosen: list[int] | None = None) -> np.ndarray:
    picked = np.arange(len(rows)) if chosen is None else np.array(chosen, np.intp)
    return form.decode(form.encode(rows), picked, rows.shape[1:])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_full_gives_the_rows_asked_for_bit_for_bit() -> None:
    rows = RANDOM.normal(size=(5, 3, 2)).astype(np.float32)
    assert there_and_back(Full(), rows, [4, 0, 4]).tobytes() == rows[[4, 0, 4]].tobytes()


def test_half_keeps_its_bound_for_large_and_small_values() -> None:
    rows = (RANDOM.normal(size=(50, 40)) * 10.0 ** RANDOM.uniform(-7, 4, (50, 40))).astype(np.float32)
    error = np.abs(there_and_back(Half(), rows) - rows)
    assert (error <= np.maximum(2.0**-11 * np.abs(rows), 2.0**-25)).all() and error.max() > 0


def test_half_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="beyond 65504"):
        Half().encode(np.full((1, 2), 1e6, np.float32))
    with pytest.raises(InputError, match="choose full"):
        Half().encode(np.ones((1, 2), np.int64))
    assert np.isinf(there_and_back(Half(), np.full((1, 2), -np.inf, np.float32))).all()


def test_bits_are_exact_and_an_eighth_of_bytes() -> None:
    rows = RANDOM.random((4, 9, 7)) > 0.5
    np.testing.assert_array_equal(there_and_back(Bits(), rows, [2, 1]), rows[[2, 1]])
    assert sum(part.nbytes for part in Bits().encode(rows).values()) == 4 * 8  # 63 bits take 8 bytes
    with pytest.raises(InputError, match="zeros and ones"):
        Bits().encode(np.full((1, 2), 2))


def test_texts_come_back_in_their_own_length() -> None:
    texts = ["", "größer", "x = 1\nprint(x)", "猫"]
    rows = text_tensor(texts).numpy()
    assert texts_of(text_tensor(texts)) == texts
    parts = Text().encode(rows)
    assert parts["bytes"].size == sum(len(text.encode()) for text in texts)
    back = there_and_back(Text(), rows, [3, 0, 1])
    assert back.shape == (3, len("größer".encode()))
    assert texts_of(text_tensor(texts)[[3, 0, 1]]) == [bytes(row).rstrip(b"\0").decode() for row in back]
    assert there_and_back(Text(), text_tensor([""]).numpy()).shape == (1, 0)
    with pytest.raises(StageError, match="code 0"):
        text_tensor(["a\0b"])
    with pytest.raises(StageError, match="no UTF-8"):
        texts_of(text_tensor(["é"])[:, :1])


@pytest.mark.parametrize("scale", [1.0, 10.0, 50.0])
def test_the_probabilities_of_the_highest_are_exact_to_half_precision(scale: float) -> None:
    logits = (scale * RANDOM.normal(size=(200, 100)) + 30).astype(np.float32)
    dense = there_and_back(TopK(k=8), logits)
    true, given = softmax(logits.astype(np.float64)), softmax(dense.astype(np.float64))
    highest = np.argsort(-logits, -1)[:, :8]
    error = np.abs(np.take_along_axis(true - given, highest, -1))
    assert error.max() <= 2.0**-10
    rest = 1 - np.take_along_axis(true, highest, -1).sum(-1)
    np.testing.assert_allclose(1 - np.take_along_axis(given, highest, -1).sum(-1), rest, atol=2.0**-10)
    np.testing.assert_allclose(dense.max(-1), logits.max(-1), rtol=1e-6)


def test_the_divergence_from_the_true_probabilities_is_within_its_bound() -> None:
    logits = RANDOM.normal(size=(100, 50)) * 3
    true, given = softmax(logits), softmax(there_and_back(TopK(k=4), logits).astype(np.float64))
    divergence = (true * np.log(true / given)).sum(-1)
    order = np.argsort(-logits, -1)
    others = np.take_along_axis(true, order[:, 4:], -1)
    mass = others.sum(-1)
    spread = -(others / mass[:, None] * np.log(others / mass[:, None])).sum(-1)
    np.testing.assert_allclose(divergence, mass * (np.log(46) - spread), atol=2e-3)
    assert (divergence <= mass * np.log(46) + 2e-3).all()


def test_a_flat_rest_holds_no_less_mass_at_higher_temperature() -> None:
    logits = RANDOM.normal(size=(100, 50)) * 3
    given = there_and_back(TopK(k=4), logits).astype(np.float64)
    others = np.argsort(-logits, -1)[:, 4:]
    true_mass, given_mass = (np.take_along_axis(softmax(z / 4), others, -1).sum(-1) for z in (logits, given))
    assert (given_mass >= true_mass - 1e-3).all() and (given_mass > true_mass + 0.01).any()


def test_top_k_takes_at_most_fifteen_percent_of_full_logits() -> None:
    logits = RANDOM.normal(size=(64, 1000)).astype(np.float32)
    stored = sum(part.nbytes for part in TopK(k=8).encode(logits).values())
    assert stored == 64 * (8 * 2 + 8 * 2 + 4 + 4)
    assert stored <= 0.15 * logits.astype(np.float16).nbytes


@pytest.mark.parametrize(("shape", "axis"), [((3, 9, 4, 5), 1), ((3, 4, 9), -1)])
def test_top_k_finds_the_classes_on_their_axis(shape: tuple[int, ...], axis: int) -> None:
    logits = RANDOM.normal(size=shape).astype(np.float32)
    dense = there_and_back(TopK(k=9, axis=axis), logits)
    assert dense.shape == shape
    np.testing.assert_allclose(dense, logits, atol=5e-3)  # all classes are kept: only rounding is left
    few = there_and_back(TopK(k=2, axis=axis), logits)
    np.testing.assert_array_equal(few.argmax(axis), logits.argmax(axis))


def test_top_k_of_one_class_left_and_of_very_low_logits_stays_finite() -> None:
    logits = np.array([[3.0, -np.inf, -1e9, 2.0], [50.0, -50.0, -50.0, -50.0]], np.float32)
    dense = there_and_back(TopK(k=3), logits)
    assert np.isfinite(dense).all()
    np.testing.assert_allclose(softmax(dense), softmax(np.maximum(logits, -1e9)), atol=1e-6)
    parts = split_logits(logits, 8)  # more than there are
    assert parts["indices"].shape == (2, 4) and dense_logits(parts, 4).shape == (2, 4)


def test_top_k_refuses_what_are_no_logits() -> None:
    for rows in (np.ones((2, 3), np.int64), np.ones(2, np.float32)):
        with pytest.raises(InputError, match="no logits"):
            TopK().encode(rows)
    with pytest.raises(InputError, match="finite maximum"):
        TopK().encode(np.full((1, 3), np.inf, np.float32))


def test_forms_are_written_by_name_or_as_a_table() -> None:
    read = TypeAdapter(AnyForm).validate_python
    assert read("half") == Half() and read({"kind": "top-k", "k": 4}) == TopK(k=4)
    with pytest.raises(ValidationError):
        read("double")
