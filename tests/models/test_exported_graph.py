import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import StageError
from edgekd.models.exported_graph import (
    absorb_norms,
    aten,
    export_graph,
    fold_constants,
    is_exported,
    scale_weights,
    set_adapting,
    set_training,
)
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, TensorSpec


def signature_of(*shape: int) -> Signature:
    return Signature(inputs=(TensorSpec(name="x", shape=("batch", *shape)),))


def with_statistics(network: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights that are not their initial ones."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                nn.init.normal_(layer.weight, 1, 0.3)
                nn.init.normal_(layer.bias)
    return network.eval()


FOLDED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)), (3, 6, 6)),
    "with a bias": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=0.1)), (3, 6, 6)),
    "same padding": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8)), (3, 6, 6)),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)), (4, 6, 6)),
    "without affine": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)), (3, 6, 6)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.BatchNorm2d(8)), (3, 6, 6)),
    "one axis": (lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)), (3, 9)),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8)), (5,)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_a_scale_in_the_weights_changes_neither_values_nor_gradients(name: str) -> None:
    make, shape = FOLDED[name]
    network = with_statistics(make())
    graph = export_graph(network, signature_of(*shape))
    scale_weights(graph)
    absorbed = copy.deepcopy(graph)
    absorb_norms(absorbed)
    assert len(norms(graph)) == 1 and not norms(absorbed)
    x = torch.randn(4, *shape)
    wanted = network(x)
    wanted.square().sum().backward()
    for one in (graph, absorbed):
        given = one(x)
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)
        given.square().sum().backward()
        own = dict(one.named_parameters())
        assert own.keys() == dict(network.named_parameters()).keys()
        for parameter, value in network.named_parameters():
            torch.testing.assert_close(own[parameter].grad, value.grad, rtol=1e-3, atol=1e-3)


def norms(graph: torch.fx.GraphModule) -> list[torch.fx.Node]:
    return list(graph.graph.find_nodes(op="call_function", target=aten.batch_norm.default))


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1)), (3, 4, 4)),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (4, 4, 4)),
        (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (4, 5)),  # the norm's axis is another one
    ],
)
def test_a_batch_norm_that_no_layer_can_take_stays(network: nn.Module, shape: tuple[int, ...]) -> None:
    graph = export_graph(with_statistics(network), signature_of(*shape))
    scale_weights(graph)
    absorb_norms(graph)
    assert len(norms(graph)) == 1
    x = torch.randn(2, *shape)
    torch.testing.assert_close(graph(x), network(x))


def test_a_scale_of_zero_has_finite_gradients() -> None:
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    nn.init.zeros_(network[1].weight)
    graph = export_graph(network, signature_of(3, 6, 6))
    scale_weights(graph)
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(graph(x), network(x))
    graph(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in graph.parameters())


def test_statistics_follow_the_batches_only_where_the_graph_adapts() -> None:
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=0.5, eps=0.1)))
    graph = export_graph(network, signature_of(3, 6, 6))
    scale_weights(graph)
    x = torch.randn(16, 3, 6, 6)
    held = graph(x)
    set_training(graph, True)
    assert torch.equal(graph(x), held)
    set_adapting(graph, True)
    torch.testing.assert_close(graph(x), network.train()(x), rtol=1e-4, atol=1e-4)
    for name in ("1.running_mean", "1.running_var"):
        torch.testing.assert_close(graph.get_buffer(name), network.get_buffer(name), rtol=1e-4, atol=1e-4)
    set_training(graph, False)
    torch.testing.assert_close(graph(x), network.eval()(x), rtol=1e-4, atol=1e-4)
    set_training(graph, True)
    set_adapting(graph, False)
    torch.testing.assert_close(graph(x), network(x), rtol=1e-4, atol=1e-4)


def test_constants_are_folded_once_what_depends_on_the_input_is_not(network: nn.Module) -> None:
    graph = export_graph(with_statistics(network), signature_of(1, 28, 28))
    scale_weights(graph)
    absorb_norms(graph)
    before, x = len(graph.graph.nodes), torch.randn(2, 1, 28, 28)
    fold_constants(graph)
    called = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert len(graph.graph.nodes) < before
    assert aten.rsqrt.default not in called and called.count(aten.conv2d.default) == 9
    torch.testing.assert_close(graph(x), network(x), rtol=1e-4, atol=1e-5)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.dropout = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.75)
        self.first = nn.BatchNorm2d(1)  # in front of the convolution, so it cannot be folded

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.dropout(self.norm(self.conv(self.first(x))))}


def test_training_mode_switches_dropout_alone() -> None:
    network = with_statistics(Dropping())
    graph = export_graph(network, signature_of(1, 8, 8))
    x = torch.randn(64, 1, 8, 8)
    statistics = {name: value.clone() for name, value in graph.named_buffers()}
    plain = graph(x)["logits"]
    torch.testing.assert_close(plain, network(x)["logits"])
    set_training(graph, True)
    dropped = graph(x)["logits"]
    assert graph.training and float((dropped == 0).float().mean()) == pytest.approx(0.75, abs=0.02)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 4 * plain[kept])
    assert all(torch.equal(value, statistics[name]) for name, value in graph.named_buffers())
    set_training(graph, False)
    assert not graph.training and torch.equal(graph(x)["logits"], plain)


def test_a_copy_can_be_switched_and_leaves_the_first_alone() -> None:
    graph = export_graph(Dropping(), signature_of(1, 8, 8))
    other = copy.deepcopy(graph)
    assert is_exported(other) and is_exported(graph)
    set_training(other, True)
    x = torch.ones(16, 1, 8, 8)
    assert (other(x)["logits"] == 0).any() and torch.equal(graph(x)["logits"], graph(x)["logits"])


def test_an_ordinary_network_is_switched_by_its_own_method() -> None:
    network = Dropping()
    assert not is_exported(network)
    assert set_training(network, False) is network and not network.norm.training
    assert set_training(network, True).training and network.norm.training


def test_the_graph_has_weights_of_its_own_and_a_free_batch(network: nn.Module) -> None:
    mode = network.train().training
    graph = export_graph(network, signature_of(1, 28, 28))
    assert network.training == mode
    assert {p.data_ptr() for p in graph.parameters()}.isdisjoint(p.data_ptr() for p in network.parameters())
    assert graph.state_dict().keys() == network.state_dict().keys()
    assert [len(graph(torch.zeros(size, 1, 28, 28))) for size in (1, 7)] == [1, 7]


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


def test_a_fixed_batch_is_refused() -> None:
    signature = learn_outputs(Fixed(), signature_of(4))
    with pytest.raises(StageError, match="free batch size"):
        export_graph(Fixed(), signature)
