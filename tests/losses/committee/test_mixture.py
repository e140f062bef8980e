import torch
from torch.nn import functional

from edgekd.losses import Answer
from edgekd.losses.committee.mean import Mean
from edgekd.losses.committee.mixture import answered, cross_entropy, mixture, shares

from ..steps import make_step, random


def test_the_softmax_of_the_mixture_is_the_mean_of_the_softmaxes() -> None:
    logits, share = random(3, 2, 5, seed=1), torch.tensor([[0.2, 1.0], [0.5, 0.0], [0.3, 0.0]], dtype=torch.float64)
    for temperature in (1.0, 4.0):
        expected = (share[..., None] * (logits / temperature).softmax(-1)).sum(0)
        torch.testing.assert_close((mixture(logits, share, temperature) / temperature).softmax(-1), expected)


def test_one_teacher_alone_comes_back_as_it_is() -> None:
    logits, share = random(2, 3, 5, seed=2, scale=9), torch.tensor([[1.0], [0.0]], dtype=torch.float64).expand(2, 3)
    torch.testing.assert_close(mixture(logits, share, 2.0), logits[0])


def test_a_single_class_is_mixed_as_a_yes_or_no() -> None:
    logits, share = random(2, 3, 1, seed=3), torch.tensor([[0.25], [0.75]], dtype=torch.float64).expand(2, 3)
    expected = 0.25 * logits[0].sigmoid() + 0.75 * logits[1].sigmoid()
    torch.testing.assert_close(mixture(logits, share).sigmoid(), expected)


def test_shares_have_the_sum_one_over_those_who_are_there() -> None:
    weight = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 5.0]])
    present = torch.tensor([[True, True, True], [True, True, False]])
    torch.testing.assert_close(shares(weight, present), torch.tensor([[0.25, 0.5, 1.0], [0.75, 0.5, 0.0]]))


def test_rows_of_zeros_were_not_answered_unless_no_one_did() -> None:
    logits = torch.ones(2, 3, 4)
    logits[0, 0] = logits[:, 2] = 0
    assert answered(logits).tolist() == [[False, True, True], [True, True, True]]


def test_cross_entropy_is_torch_s_and_nothing_without_a_label() -> None:
    logits, labels = random(3, 5, seed=4), torch.tensor([4, -1, 0])
    expected = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    one = random(3, 1, seed=5)
    expected = functional.binary_cross_entropy_with_logits(
        one[:, 0], torch.tensor([1.0, 0.0, 1.0], dtype=one.dtype), reduction="none"
    )
    torch.testing.assert_close(cross_entropy(one, torch.tensor([1, 0, 1])), expected)


def test_token_logits_keep_their_axes() -> None:
    teachers = {name: Answer({"output": random(2, 5, 3, seed=k)}) for k, name in enumerate("ab")}
    step = make_step(teachers["a"], teachers["a"], teachers=teachers, class_axis=-1, targets=None)
    expected = sum(answer.output().softmax(-1) for answer in teachers.values()) / 2
    torch.testing.assert_close(Mean()(step).output().softmax(-1), expected)


def test_further_outputs_are_averaged_and_features_are_the_first_teacher_s() -> None:
    teachers = {
        "a": Answer({"output": random(2, 3), "boxes": torch.zeros(2, 4)}, {"tap": torch.zeros(2, 5)}),
        "b": Answer(
            {"output": random(2, 3), "boxes": torch.ones(2, 4)}, {"tap": torch.ones(2, 5), "b/own": torch.ones(2, 6)}
        ),
    }
    made = Mean()(make_step(teachers["a"], teachers["a"], teachers=teachers, targets=None))
    torch.testing.assert_close(made.outputs["boxes"], torch.full((2, 4), 0.5))
    assert set(made.features) == {"tap", "b/own"} and not made.features["tap"].any()
