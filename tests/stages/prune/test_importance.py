from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from edgekd.cli.prune import IMPORTANCES as CHOICES
from edgekd.errors import InputError
from edgekd.stages.prune import PruneSettings
from edgekd.stages.prune.groups import graph_of
from edgekd.stages.prune.importance import IMPORTANCES
from edgekd.stages.prune.importance.activation import activation
from edgekd.stages.prune.importance.fpgm import fpgm
from edgekd.stages.prune.importance.gradients import hessian, taylor
from edgekd.stages.prune.pruner import prune_until

from .networks import Feed, convolutions, part, signed


def group_of(network: nn.Module, signature: Any, layer: nn.Module) -> Any:
    graph = graph_of(network, signature)
    width = getattr(layer, "out_channels", None) or layer.out_features
    return graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, list(range(width)))


def relative(scores: Tensor) -> Tensor:
    return scores / scores.mean()


def test_a_channel_is_worth_its_mean_activation_where_the_next_layer_reads_it() -> None:
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    nn.init.uniform_(network[1].running_mean, -0.3, 0.3)
    images = torch.randn(150, 1, 6, 6)  # more than one batch
    score = activation(network, part(signature, images))
    with torch.no_grad():
        seen, pooled = network[:3](images), network[:8](images)
    torch.testing.assert_close(score(group_of(network, signature, network[0])), relative(seen.abs().mean((0, 2, 3))))
    torch.testing.assert_close(score(group_of(network, signature, network[3])), relative(pooled.abs().mean(0)))


def test_neurons_and_hidden_channels_are_worth_what_minitron_says() -> None:
    network = Feed().eval()
    nn.init.uniform_(network.norm1.weight, 0.1, 2)
    signature = signed(network, 5, 4)
    tokens = torch.randn(150, 5, 4)
    score = activation(network, part(signature, tokens))
    with torch.no_grad():
        x = network.embed(tokens)
        first = network.norm1(x)
        neurons = network.up(first).relu()
        second = network.norm2(x + network.down(neurons))
    wanted = neurons.abs().mean(0).square().sum(0).sqrt()
    torch.testing.assert_close(score(group_of(network, signature, network.up)), relative(wanted))
    wanted = first.abs().mean((0, 1)) + second.abs().mean((0, 1))
    torch.testing.assert_close(score(group_of(network, signature, network.down)), relative(wanted))


def test_a_channel_that_never_answers_goes_first() -> None:
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    dead = [3, 9, 12, 15]
    with torch.no_grad():
        network[1].bias[dead] = -100.0
        network[0].weight[dead] *= 50  # the magnitude would keep them
    settings = PruneSettings(
        to_macs=0.5, importance="activation", steps=1, scope="local", largest_cut=0.25, keep=("3",)
    )
    calibration = part(signature, torch.randn(40, 1, 6, 6))
    ((_, _, cut),) = prune_until(network, signature, settings, 4, lambda candidate: False, calibration)
    assert cut == dead


def test_filters_that_others_stand_for_are_worth_least() -> None:
    """Two equal filters near the middle; a filter and its negative are far apart, whatever their magnitudes."""
    network = nn.Sequential(nn.Conv2d(1, 5, 1, bias=False), nn.ReLU(), nn.Conv2d(5, 2, 1)).eval()
    signature = signed(network, 1, 4, 4)
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([3.0, -3.0, 0.1, 0.1, 1.0]).reshape(5, 1, 1, 1))
    scores = fpgm(network, None)(group_of(network, signature, network[0]))
    torch.testing.assert_close(scores, relative(torch.tensor([13.8, 16.2, 6.9, 6.9, 7.8])))


def loss_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    found = []
    for image, label in zip(images, labels, strict=True):
        network.zero_grad()
        nn.functional.cross_entropy(network(image[None]), label[None]).backward()
        found.append(network[0].weight.grad.clone())
    return found


@pytest.mark.parametrize("name", ["taylor", "hessian"])
def test_gradients_are_those_of_all_samples(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    signature = signed(network, 1, 6, 6)
    images, labels = torch.randn(10, 1, 6, 6), torch.arange(10) % 3
    calibration = part(signature, images, labels)
    single = torch.stack(loss_gradients(network, images, labels))
    (taylor if name == "taylor" else hessian)(network, calibration)
    wanted = single.mean(0) if name == "taylor" else single.square().mean(0)
    torch.testing.assert_close(network[0].weight.grad, wanted)


@pytest.mark.parametrize("name", list(IMPORTANCES))
def test_every_importance_ranks_convolutions_and_tokens(name: str) -> None:
    images = signed(convolutions(), 1, 6, 6), torch.randn(20, 1, 6, 6), convolutions()
    tokens = signed(Feed(), 5, 4), torch.randn(20, 5, 4), Feed().eval()
    for signature, inputs, network in (images, tokens):
        if name == "batch-norm" and isinstance(network, Feed):
            continue
        settings = PruneSettings(to_macs=0.5, importance=name, steps=3, largest_cut=0.5)  # type: ignore[arg-type]
        labels = torch.arange(20) % 3
        history = prune_until(network, signature, settings, 4, lambda candidate: False, part(signature, inputs, labels))
        assert history
        with torch.no_grad():
            assert network(inputs).isfinite().all()


def test_settings_and_command_line_name_every_importance() -> None:
    assert list(get_args(PruneSettings.model_fields["importance"].annotation)) == list(IMPORTANCES) == CHOICES


def test_activations_that_are_not_finite_are_named() -> None:
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    with torch.no_grad():
        network[1].running_var.fill_(float("nan"))
    with pytest.raises(InputError, match="^3 is given NaN or infinite activations on the calibration part"):
        activation(network, part(signature, torch.randn(4, 1, 6, 6)))
    with pytest.raises(InputError, match="the gradients of .* on the calibration part are NaN"):
        taylor(network, part(signature, torch.randn(4, 1, 6, 6), torch.arange(4)))


def test_weights_that_are_not_finite_are_named() -> None:
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    with torch.no_grad():
        network[3].weight[0, 0] = float("inf")
    with pytest.raises(InputError, match=r"the weights 3\.weight hold NaN or infinite values"):
        prune_until(network, signature, PruneSettings(to_macs=0.5), 4, lambda candidate: False)
