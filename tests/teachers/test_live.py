import torch
from torch import nn

from edgekd.models.signature import Signature, TensorSpec
from edgekd.teachers.live import LiveTeacher

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 8)),))


def teacher() -> LiveTeacher:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    return LiveTeacher("big", network, "hash", SIGNATURE)


X = {"x": torch.randn(6, 8)}


def test_it_answers_without_gradients_and_is_frozen() -> None:
    one = teacher()
    answer = one.answer(X, sample_ids=None, taps=("0",))
    assert answer.outputs["output"].shape == (6, 4) and answer.features["0"].shape == (6, 16)
    assert not answer.outputs["output"].requires_grad and not any(p.requires_grad for p in one.network.parameters())
    assert one.identity == "hash" and one.live_features and one.has_tap("2:input") and not one.has_tap("3")


def test_a_pass_that_stops_early_costs_less() -> None:
    one = teacher()
    one.asked = 12
    one.answer(X, sample_ids=None, taps=("0",), outputs_wanted=False)
    assert one.macs == 6 * 8 * 16
    one.answer(X, sample_ids=None)
    assert one.samples == 12 and one.macs == 6 * (2 * 8 * 16 + 16 * 4)
    assert one.share() == (2 * 8 * 16 + 16 * 4) / (2 * (8 * 16 + 16 * 4))
