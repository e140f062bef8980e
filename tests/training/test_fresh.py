import copy

import pytest
import torch
from torch import nn

from edgekd.models.networks.vit import ViT
from edgekd.training.fresh import fresh

from .conftest import weights


def test_fresh_weights_differ_and_keep_their_shapes(trained: nn.Module) -> None:
    other = fresh(trained)
    assert not torch.equal(weights(trained), weights(other))
    assert [p.shape for p in trained.parameters()] == [p.shape for p in other.parameters()]


class Plain(nn.Module):
    """Parameters that no layer of torch initializes, or only under the name `_reset_parameters`."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.position = nn.Parameter(torch.zeros(1, 5, 8))
        self.scale, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)


@pytest.mark.parametrize("network", [Plain(), ViT()], ids=["plain", "vit"])
def test_from_scratch_keeps_no_trained_tensor(network: nn.Module) -> None:
    network = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(7)
    torch.manual_seed(0)
    for name, tensor in fresh(network).state_dict().items():
        assert torch.isfinite(tensor).all() and not (tensor == 7).any(), name
        if tensor.ndim > 1:
            assert 0 < tensor.std() < 1, name


def test_masked_weights_stay_zero_from_scratch() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    with torch.no_grad():
        network[0].weight[torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5] = 0
        network[1].weight.zero_()  # no mask: a layer may begin with zeros
    made = fresh(network)
    assert torch.equal(made[0].weight == 0, network[0].weight == 0) and made[1].weight.all()  # type: ignore[index]
