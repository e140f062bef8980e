import pytest
import torch
from pydantic import ValidationError

from edgekd.losses import LOSSES
from edgekd.losses.feature.multi_layer import MultiLayer

from ..steps import Answer, make_step, memory_of, random


def test_coefficients_weigh_the_mean() -> None:
    student = Answer({}, {"a": random(3, 4)})
    teacher = Answer({}, {"b.0": random(3, 4, seed=1), "b.1": random(3, 4, seed=2)})
    loss = LOSSES["hint"].model_validate({"layers": {"kind": "multi-layer", "taps": {"a": {"b.0": 3, "b.1": 1}}}})
    assert loss.teacher_taps() == loss.all_teacher_taps() == ("b.0", "b.1")
    found = loss(make_step(student, teacher), memory_of(loss, student, teacher))
    apart = [(student.features["a"] - teacher.features[block]).square().mean(1) for block in ("b.0", "b.1")]
    torch.testing.assert_close(found, 0.75 * apart[0] + 0.25 * apart[1])


def test_a_layer_named_twice_is_captured_once() -> None:
    policy = MultiLayer(taps={"a": {"x": 1}, "b": {"x": 2, "y": 1}})
    assert policy.student_taps() == ("a", "b") and policy.teacher_taps() == ("x", "y")


@pytest.mark.parametrize("layers", [{}, {"x": 0.0}, {"x": -1.0}])
def test_coefficients_are_above_zero(layers: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="coefficient above 0"):
        MultiLayer(taps={"a": layers})
