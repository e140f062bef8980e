import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer
from edgekd.losses.weight.modality_reliability import ModalityReliability, modality_weight
from edgekd.losses.weight.teacher_confidence import reliability

from ..steps import make_step, random

FIRST, SECOND = random(3, 4), random(3, 4, seed=1)
MASK = torch.tensor([[1.0, 1], [1, 0], [0, 0]])


def test_it_is_the_softmax_mean_over_the_modalities_present() -> None:
    found = modality_weight(torch.tensor([[0.9, 0.1], [0.3, 0.8], [0.7, 0.6]]), MASK > 0, temperature=0.5)
    shares = torch.softmax(torch.tensor([1.8, 0.2]), 0)
    expected = torch.stack([shares[0] * 0.9 + shares[1] * 0.1, torch.tensor(0.3), torch.tensor(0.0)])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layout", ["outputs", "teachers"])
def test_a_modality_answers_through_an_output_or_a_teacher(layout: str) -> None:
    both = Answer({"sound": FIRST, "image": SECOND})
    apart = {"sound": Answer({"output": FIRST}), "image": Answer({"output": SECOND})}
    step = make_step(Answer({}), both, teachers=apart, extras={"modalities": MASK})
    weight = ModalityReliability(outputs=("sound", "image") if layout == "outputs" else ())
    labels = step.targets
    reliabilities = torch.stack([reliability(logits.softmax(1), labels) for logits in (FIRST, SECOND)], 1)
    torch.testing.assert_close(weight(step, torch.zeros(3)), modality_weight(reliabilities, MASK > 0, 0.1))


def test_a_mask_that_does_not_fit_is_named() -> None:
    step = make_step(Answer({}), Answer({"output": FIRST}), extras={"modalities": MASK})
    with pytest.raises(InputError, match=r"\(3, 2\), but 1 answers"):
        ModalityReliability()(step, torch.zeros(3))
