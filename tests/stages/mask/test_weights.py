import pytest
import torch
from torch import nn

from edgekd.errors import InputError
from edgekd.models.networks import NETWORKS
from edgekd.stages.mask.weights import fitting, maskable


class Tied(nn.Module):
    """One weight in two layers, one of them an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.up, self.turned, self.head = nn.ConvTranspose1d(4, 6, 3), nn.Linear(8, 8), nn.Linear(8, 12, bias=False)
        self.head.weight = self.embedding.weight


def test_only_what_multiplies_is_masked_and_a_shared_weight_once() -> None:
    found = {one.name: (one.axis, one.inputs) for one in maskable(Tied(), ())}
    assert found == {"up.weight": (0, 4), "turned.weight": (1, 8), "head.weight": (1, 8)}
    assert [one.name for one in maskable(Tied(), ("up", "turned"))] == ["head.weight"]
    gru = [one.name for one in maskable(NETWORKS["gru"](), ())]
    assert gru == ["gru.weight_ih_l0", "gru.weight_hh_l0", "classifier.weight"]


def test_weights_that_are_computed_stay_as_they_are() -> None:
    network = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    assert [one.name for one in maskable(network, ())] == ["1.weight"]


def test_layers_whose_inputs_do_not_fit_a_pattern_are_told() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1), nn.Linear(6, 2))
    fit, dense = fitting(maskable(network, ()), (2, 4))
    assert [one.name for one in fit] == ["2.weight"] and [one.name for one in dense] == [
        "0.weight",
        "1.weight",
        "3.weight",
    ]
    with pytest.raises(InputError, match="pattern 8:16 needs layers whose inputs are a multiple of 16"):
        fitting(maskable(network, ()), (8, 16))


def test_nothing_to_mask_and_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="no convolution, linear or recurrent layer"):
        maskable(nn.Sequential(nn.BatchNorm1d(3)), ())
    with pytest.raises(InputError, match="could be set to zero beside 0"):
        maskable(nn.Sequential(nn.Linear(3, 3)), ("0",))
    with pytest.raises(InputError, match="no module turn; nearest: turned"):
        maskable(Tied(), ("turn",))
