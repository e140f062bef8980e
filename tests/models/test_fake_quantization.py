import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.exported_graph import set_adapting, set_training, value_of
from edgekd.models.fake_quantization import (
    Simulation,
    copy_weights,
    integer_graph,
    prepare_graph,
    rounded_weights,
    rounders,
    set_range,
    set_weight_ranges,
    unknown_names,
    zero_ratios,
)
from edgekd.models.signature import Signature, TensorSpec
from edgekd.target import QuantizationScheme

UNSIGNED = QuantizationScheme()
SYMMETRIC = QuantizationScheme(activation_dtype="int8", activation_symmetric=True)


class Small(nn.Module):
    """A stem, a residual block, both kinds of pooling, a branch that is concatenated, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.MaxPool2d(2)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.branch = nn.Conv2d(8, 4, 1)
        self.pool, self.flatten, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.stem(x))
        x = (self.conv(x) + x).relu()
        x = torch.cat([x, self.branch(x)], 1)
        return self.head(self.flatten(self.pool(x)))


SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3, 8, 8)),))


def rounded(graph: torch.fx.GraphModule) -> dict[str, list[bool]]:
    """Return for every operation that the network calls whether its inputs are rounded."""
    known = rounders(graph)
    names = {id(module) for module in known.values()}

    def is_rounded(node: torch.fx.Node) -> bool:
        return node.op == "call_module" and id(graph.get_submodule(str(node.target))) in names

    found: dict[str, list[bool]] = {}
    for node in graph.graph.nodes:
        if node.op == "call_function" and "nn_module_stack" in node.meta:
            inputs = [one for one in node.all_input_nodes if not is_bias(node, one)]
            found.setdefault(str(node.target).split(".")[1], []).append(all(map(is_rounded, inputs)))
    return found


def is_bias(node: torch.fx.Node, given: torch.fx.Node) -> bool:
    return len(node.args) > 2 and node.args[2] is given


def test_layers_additions_concatenations_and_pools_take_rounded_values() -> None:
    graph = prepare_graph(Small().eval(), SIGNATURE, Simulation(scheme=UNSIGNED))
    found = rounded(graph)
    for name in ("conv2d", "max_pool2d", "add", "cat", "adaptive_avg_pool2d", "linear", "flatten"):
        assert all(found[name]), name
    assert found["relu"] == [False, False]
    assert len(rounded_weights(graph)) == 4


def test_what_only_moves_values_has_one_scale_on_both_sides() -> None:
    graph = prepare_graph(Small().eval(), SIGNATURE, Simulation(scheme=UNSIGNED))
    for name in ("max_pool2d.default", "flatten.using_ints"):
        packet, overload = name.split(".")
        (node,) = graph.graph.find_nodes(op="call_function", target=getattr(getattr(torch.ops.aten, packet), overload))
        before, (after, *_) = node.args[0], list(node.users)
        assert graph.get_submodule(str(before.target)) is graph.get_submodule(str(after.target))


@pytest.mark.parametrize(
    ("simulation", "floating", "layers"),
    [
        (Simulation(scheme=UNSIGNED, least_channels=4), "conv2d", [False, True, True]),
        (Simulation(scheme=UNSIGNED, keep_float=("branch", "head")), "conv2d", [True, True, False]),
        (Simulation(scheme=UNSIGNED, keep_float=("stem",)), "conv2d", [False, True, True]),
        (Simulation(scheme=UNSIGNED, keep_float=("Gemm",)), "linear", [False]),
        (Simulation(scheme=UNSIGNED, keep_float=("Conv",)), "conv2d", [False, False, False]),
        (Simulation(scheme=QuantizationScheme(operators=("Conv",))), "linear", [False]),
    ],
)
def test_what_shall_stay_in_float_does(simulation: Simulation, floating: str, layers: list[bool]) -> None:
    assert rounded(prepare_graph(Small().eval(), SIGNATURE, simulation))[floating] == layers


def set_ranges(graph: torch.fx.GraphModule) -> None:
    weights = rounded_weights(graph)
    for name, rounder in rounders(graph).items():
        rows = weights[name].flatten(1) if name in weights and rounder.is_per_channel else torch.tensor([-1.0, 2.0])
        set_range(rounder, *torch.aminmax(rows.detach(), dim=-1))


def test_the_levels_are_those_of_the_scheme() -> None:
    torch.manual_seed(0)
    network = Small().eval()
    unsigned = prepare_graph(network, SIGNATURE, Simulation(scheme=UNSIGNED))
    symmetric = prepare_graph(network, SIGNATURE, Simulation(scheme=SYMMETRIC))
    for graph in (unsigned, symmetric):
        set_ranges(graph)
        for name, weight in rounded_weights(graph).items():
            rounder = rounders(graph)[name]
            assert (rounder.zero_point == 0).all() and len(rounder.scale) == len(weight)
            torch.testing.assert_close(rounder.scale, weight.abs().flatten(1).amax(1).detach() / 127)
    activation = next(one for name, one in rounders(unsigned).items() if name not in rounded_weights(unsigned))
    assert float(activation.scale) == pytest.approx(3 / 255) and int(activation.zero_point) == 85
    activation = next(one for name, one in rounders(symmetric).items() if name not in rounded_weights(symmetric))
    assert float(activation.scale) == pytest.approx(2 / 127.5) and int(activation.zero_point) == 0


@pytest.mark.parametrize("scheme", [UNSIGNED, SYMMETRIC, QuantizationScheme(per_channel=False)])
def test_a_converted_graph_has_integer_weights_and_the_same_values(scheme: QuantizationScheme) -> None:
    torch.manual_seed(0)
    graph = prepare_graph(Small().eval(), SIGNATURE, Simulation(scheme=scheme))
    set_ranges(graph)
    x = torch.randn(16, 3, 8, 8)
    before, nodes = graph(x), len(graph.graph.nodes)
    converted = integer_graph(graph)
    integers = [
        value_of(converted, node)
        for node in converted.graph.find_nodes(op="get_attr")
        if isinstance(value_of(converted, node), Tensor) and value_of(converted, node).dtype == torch.int8
    ]
    assert len(integers) == 4
    step = 3 / 255 * 2
    assert float((converted(x) - before).detach().abs().max()) < step
    assert len(graph.graph.nodes) == nodes and torch.equal(graph(x), before)


@pytest.mark.parametrize("scheme", [UNSIGNED, SYMMETRIC])
def test_a_converted_graph_has_the_scales_that_the_training_saw(scheme: QuantizationScheme) -> None:
    torch.manual_seed(0)
    network = Small().eval()
    nn.init.zeros_(network.conv.weight[0])  # a channel that a mask took
    graph = prepare_graph(network, SIGNATURE, Simulation(scheme=scheme))
    set_ranges(graph)
    set_adapting(graph, True)
    set_training(graph, True)
    for _ in range(3):  # ranges follow, and torch's kernel sets the scales
        graph(torch.randn(16, 3, 8, 8))
    set_training(graph, False)
    x = torch.randn(16, 3, 8, 8)
    converted = integer_graph(graph)
    difference = (converted(x) - graph(x)).detach().abs()
    assert float(difference.median()) < 1e-6  # a few values may fall to the other side of a tie
    values = [value_of(converted, node) for node in converted.graph.find_nodes(op="get_attr")]
    (levels,) = [one for one in values if one.dtype == torch.int8 and one.shape == network.conv.weight.shape]
    assert not levels[0].any() and levels[1].abs().max() == 127


class WithSpare(nn.Module):
    """A network with a layer that only training would use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.spare = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def test_weights_copy_back_and_what_the_graph_has_not_stays() -> None:
    network = WithSpare().eval()
    graph = prepare_graph(network, SIGNATURE, Simulation(scheme=UNSIGNED))
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.add_(1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy_weights(graph, network)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"conv.weight", "conv.bias", "norm.weight", "norm.bias"}
    assert all(torch.equal(network.state_dict()[name], before[name] + 1) for name in moved)


def test_names_that_nothing_has_are_found() -> None:
    assert unknown_names(Small(), ("head", "Conv", "stem.0", "convolution")) == ["convolution"]


def test_weights_alone_are_rounded_where_activations_are_in_float() -> None:
    graph = prepare_graph(
        Small().eval(), SIGNATURE, Simulation(scheme=UNSIGNED, weights="int4", activations="float", block=16)
    )
    assert rounders(graph).keys() == rounded_weights(graph).keys() and len(rounders(graph)) == 4


def test_ternary_weights_are_those_of_linear_layers() -> None:
    simulation = Simulation(scheme=UNSIGNED, weights="ternary", activations="float", block=128)
    graph = prepare_graph(Small().eval(), SIGNATURE, simulation)
    set_weight_ranges(graph)
    (ratio,) = zero_ratios(graph).items()
    assert ratio[0] == "head.weight" and 0 < ratio[1] < 1
    (rounded_weight,) = (rounders(graph)[name](weight) for name, weight in rounded_weights(graph).items())
    assert all(len(row.detach().abs().unique()) == 2 for row in rounded_weight)  # zero and one magnitude


class Tied(nn.Module):
    """Tokens whose embedding is the weight of the layer behind, and two layers of one weight."""

    def __init__(self, embeds: bool) -> None:
        super().__init__()
        self.table, self.first, self.second = nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        if embeds:
            self.first.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.table(x)).relu())


TOKENS = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3), dtype="int64"),))


def test_one_weight_of_two_layers_has_one_rounder_and_one_of_a_rounded_and_a_float_layer_is_refused() -> None:
    simulation = Simulation(scheme=UNSIGNED, weights="int4")
    graph = prepare_graph(Tied(False).eval(), TOKENS, simulation)
    assert len(rounded_weights(graph)) == 1
    with pytest.raises(
        InputError, match=r'one weight of several layers, and table uses it .* keep_float = \["first"\]'
    ):
        prepare_graph(Tied(True).eval(), TOKENS, simulation)
    with pytest.raises(InputError, match="and first uses it in float"):
        prepare_graph(Tied(False).eval(), TOKENS, simulation.model_copy(update={"keep_float": ("first",)}))
    kept = simulation.model_copy(update={"keep_float": ("first", "second")})
    assert not rounded_weights(prepare_graph(Tied(True).eval(), TOKENS, kept))


class Branching(nn.Module):
    """What runs depends on the values of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_is_refused() -> None:
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 8)),))
    with pytest.raises(InputError, match="torch cannot trace this network"):
        prepare_graph(Branching().eval(), signature, Simulation(scheme=UNSIGNED))
