"""Lifted graphs answer like the exported program, and are ordinary networks: trainable and prunable."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.nn import functional as F

from edgekd.errors import InputError
from edgekd.models.loading.lift import lift
from edgekd.models.networks.resnet8 import ResNet8

BATCH = ({0: Dim("batch", min=1, max=64)},)


class Zoo(nn.Module):
    """One of every layer that is lifted, and some that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding="valid", dilation=(1, 2))
        self.same = nn.Conv2d(8, 8, 3, padding="same", groups=4, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=1e-3, momentum=0.2)
        self.prelu = nn.PReLU(8)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1, groups=2)
        self.group = nn.GroupNorm(2, 4)
        self.drop = nn.Dropout(0.5)
        self.drop2d = nn.Dropout2d(0.25)
        self.row = nn.Conv1d(4, 4, 3, padding=1)
        self.back = nn.ConvTranspose1d(4, 4, 2)
        self.norm1d = nn.BatchNorm1d(4, affine=False)
        self.layer_norm = nn.LayerNorm(4)
        self.embedding = nn.Embedding(10, 4, padding_idx=3)
        self.position = nn.Parameter(torch.randn(1, 4))
        self.head = nn.Linear(4, 5, bias=False)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return two outputs by name."""
        y = self.drop2d(self.group(self.up(self.prelu(self.norm(self.same(self.conv(x)))))))
        z = self.norm1d(self.back(self.row(y.mean(2))))
        features = self.layer_norm(z.mean(2) + self.embedding(index) + self.position) * self.scale
        return {"logits": self.head(self.drop(F.relu(features))), "features": features}


def trained(network: nn.Module, *inputs: Tensor) -> nn.Module:
    """Return the network in eval mode with batch statistics that are not those of a fresh one."""
    with torch.no_grad():
        for _ in range(3):
            network.train()(*inputs)
    return network.eval()


def zoo() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    inputs = (torch.randn(4, 3, 12, 12), torch.tensor([0, 3, 5, 9]))
    return trained(Zoo(), *inputs), inputs


def test_every_layer_comes_back() -> None:
    network, inputs = zoo()
    lifted = lift(export(network, inputs, dynamic_shapes=(BATCH[0], {0: BATCH[0][0]})))
    modules = dict(lifted.named_modules())
    for name, module in network.named_children():
        if not isinstance(module, nn.Dropout | nn.Dropout2d):
            assert type(modules[name]) is type(module) and modules[name].extra_repr() == module.extra_repr()
    assert lifted.state_dict().keys() == network.state_dict().keys()
    assert {n for n, _ in lifted.named_parameters()} == {n for n, _ in network.named_parameters()}
    assert sum(isinstance(module, nn.Dropout | nn.Dropout2d) for module in modules.values()) == 2


def test_answers_are_those_of_the_program() -> None:
    network, inputs = zoo()
    program = export(network, inputs)
    expected = program.module()(*inputs)
    actual = lift(program)(*inputs)
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-5)


def test_arguments_can_be_named() -> None:
    network, inputs = zoo()
    torch.testing.assert_close(lift(export(network, inputs))(index=inputs[1], x=inputs[0]), network(*inputs))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("decomposed", [False, True])
def test_both_dialects_and_both_modes_lift(train: bool, decomposed: bool) -> None:
    torch.manual_seed(0)
    image = torch.randn(4, 1, 8, 8)
    network = trained(
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
        ),
        image,
    )
    program = export(network.train(train), (image,), dynamic_shapes=BATCH)
    if decomposed and train:
        with pytest.raises(InputError, match="exported in training mode"):
            lift(program.run_decompositions())
        return
    lifted = lift(program.run_decompositions() if decomposed else program)
    torch.testing.assert_close(lifted(image), network.eval()(image))
    kinds = {type(module) for module in lifted.modules()}
    assert {nn.Conv2d, nn.BatchNorm2d, nn.Linear} <= kinds
    assert isinstance(lifted.get_submodule("1"), nn.BatchNorm2d)


def test_train_and_eval_are_real() -> None:
    torch.manual_seed(0)
    image = torch.randn(4, 3, 16, 16)
    lifted = lift(export(trained(ResNet8(), image), (image,), dynamic_shapes=BATCH))
    norm = lifted.get_submodule("blocks.0.bn1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.num_batches_tracked is not None
    before, counted = norm.running_mean.clone(), int(norm.num_batches_tracked)
    lifted(image)
    assert torch.equal(norm.running_mean, before)
    lifted.train()(image + 1).sum().backward()
    assert not torch.equal(norm.running_mean, before) and int(norm.num_batches_tracked) == counted + 1
    assert all(parameter.grad is not None for parameter in lifted.parameters())


def test_dropout_drops_in_training_only() -> None:
    network = nn.Sequential(nn.Linear(50, 50), nn.Dropout(0.5)).eval()
    x = torch.randn(2, 50)
    lifted = lift(export(network, (x,)))
    assert torch.equal(lifted(x), lifted(x))
    assert (lifted.train()(x) == 0).sum() > 10


def test_the_batch_is_not_frozen() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y = y.view(y.shape[0], 2, 2, 4, 4).reshape(y.shape[0], 4, 4, 4)
            return self.head(y.view(y.shape[0], -1))

    for batch, dynamic in ((1, False), (3, False), (2, True)):
        program = export(Views(), (torch.randn(batch, 1, 6, 6),), dynamic_shapes=BATCH if dynamic else None)
        lifted = lift(program)
        assert lifted.meta["static_batch"] == (None if dynamic else batch)
        for size in (1, 2, 5):
            assert lifted(torch.randn(size, 1, 6, 6)).shape == (size, 2)


def test_torch_pruning_prunes_a_lifted_network() -> None:
    tp: Any = pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    image = torch.randn(2, 3, 16, 16)
    network = trained(ResNet8(), image)
    lifted = lift(export(network, (image,), dynamic_shapes=BATCH))
    for each in (network, lifted):
        pruner = tp.pruner.BasePruner(
            each,
            image,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.5,
            ignored_layers=[each.classifier],
        )
        pruner.step()
    assert {name: tuple(tensor.shape) for name, tensor in lifted.state_dict().items()} == {
        name: tuple(tensor.shape) for name, tensor in network.state_dict().items()
    }
    torch.testing.assert_close(lifted(image), network(image), atol=1e-5, rtol=1e-5)


def test_a_flattening_of_fixed_width_can_be_pruned() -> None:
    tp: Any = pytest.importorskip("torch_pruning")
    image = torch.randn(2, 1, 8, 8)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)).eval()
    lifted = lift(export(network, (image,)).run_decompositions())
    graph = tp.DependencyGraph().build_dependency(lifted, example_inputs=image)
    graph.get_pruning_group(lifted.get_submodule("0"), tp.prune_conv_out_channels, idxs=[0, 3]).prune()
    assert lifted(image).shape == (2, 3)
    assert lifted.get_submodule("3").weight.shape == (3, 216)


def test_a_lifted_network_can_be_copied_and_exported_again() -> None:
    network, inputs = zoo()
    lifted = lift(export(network, inputs))
    torch.testing.assert_close(copy.deepcopy(lifted)(*inputs), network(*inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = lift(export(lifted, inputs))
    torch.testing.assert_close(again(*inputs), network(*inputs))
    assert again.state_dict().keys() == network.state_dict().keys()


class Tied(nn.Module):
    """A layer that is called twice, a shared weight, and a layer whose weight is used by name."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.tokens = nn.Embedding(6, 4)

    def forward(self, index: Tensor) -> Tensor:
        """Return scores of tokens."""
        x = self.twice(self.twice(self.tokens(index))) * self.twice.weight.sum()
        return F.linear(x, self.tokens.weight)


def test_shared_layers_stay_shared() -> None:
    torch.manual_seed(0)
    network = Tied().eval()
    index = torch.tensor([[0, 1], [2, 5]])
    lifted = lift(export(network, (index,)))
    torch.testing.assert_close(lifted(index), network(index))
    assert [name for name, _ in lifted.named_parameters()] == [name for name, _ in network.named_parameters()]


class Held(nn.Module):
    """A place that holds more than a layer: a scale beside weight and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return x times a scaled weight."""
        return F.linear(x, self.weight) * self.scale


def test_layers_of_the_users_own_stay_functions() -> None:
    network = nn.Sequential(Held(), nn.Linear(3, 2)).eval()
    x = torch.randn(2, 3)
    lifted = lift(export(network, (x,)))
    torch.testing.assert_close(lifted(x), network(x))
    assert isinstance(lifted.get_submodule("1"), nn.Linear)
    assert not isinstance(lifted.get_submodule("0"), nn.Linear)
    assert lifted.state_dict().keys() == network.state_dict().keys()


def test_nested_inputs_are_refused() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, pair: list[Tensor]) -> Tensor:
            return self.layer(pair[0] + pair[1])

    program: ExportedProgram = export(Nested(), ([torch.ones(1, 2), torch.ones(1, 2)],))
    with pytest.raises(InputError, match="nested inputs"):
        lift(program)
