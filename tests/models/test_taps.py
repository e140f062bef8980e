from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.errors import InputError
from edgekd.models.fake_quantization import Simulation, prepare_graph, rounders
from edgekd.models.signature import Signature, TensorSpec, parse_inputs
from edgekd.models.source import Opening, open_model
from edgekd.models.taps import PENULTIMATE, Taps
from edgekd.target import QuantizationScheme


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


X = {"x": torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(1))}


def graph_of(net: nn.Module) -> nn.Module:
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(net, (X["x"],), dynamic_shapes=({0: batch},)).module()


def test_what_modules_take_and_give_is_captured(net: Net) -> None:
    outputs, features = Taps(net, ["stem", "body.0", "head:input", PENULTIMATE]).run(X)
    stem = net.stem(X["x"])
    assert torch.equal(features["stem"], stem) and torch.equal(features["body.0"], net.body[0](stem))
    assert torch.equal(features["head:input"], net.body(stem).mean((2, 3)))
    assert torch.equal(features[PENULTIMATE], features["head:input"])
    assert torch.equal(outputs["output"], net(X["x"]))


def test_the_same_places_are_found_in_an_exported_graph(net: Net) -> None:
    """Forward hooks would attach there and never fire."""
    names = ["stem", "stem.0", "body", "body.0:input", "head:input", PENULTIMATE]
    outputs, features = Taps(graph_of(net), names).run(X)
    wanted, known = Taps(net, names).run(X)
    assert torch.equal(outputs["output"], wanted["output"])
    for name in names:
        torch.testing.assert_close(features[name], known[name])


def test_gradients_flow_through_the_features_of_a_graph(net: Net) -> None:
    graph = graph_of(net)
    _, features = Taps(graph, ["body"]).run(X)
    features["body"].sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in graph.parameters())


def test_the_rest_of_the_network_does_not_run(net: Net) -> None:
    ran = []
    net.head.register_forward_hook(lambda *_: ran.append("head"))
    net.body.register_forward_hook(lambda *_: ran.append("body"))
    outputs, features = Taps(net, ["stem"]).run(X, outputs=False)
    assert not ran and not outputs and set(features) == {"stem"}
    Taps(net, ["stem"]).run(X)
    assert ran == ["body", "head"]


def test_no_hook_stays_behind(net: Net) -> None:
    Taps(net, ["stem", "body:input"]).run(X)
    Taps(net, ["stem"]).run(X, outputs=False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_an_answer_can_be_replaced(net: Net) -> None:
    tokens = torch.randn(2, 6, 5, 5, requires_grad=True)
    outputs, _ = Taps(net, []).run(X, replaced={"body": tokens})
    torch.testing.assert_close(outputs["output"], net.head(tokens.mean((2, 3))))
    outputs["output"].sum().backward()
    assert tokens.grad is not None


@pytest.mark.parametrize("exported", [False, True])
def test_a_module_that_is_not_there_names_the_nearest(net: Net, exported: bool) -> None:
    with pytest.raises(InputError, match=r"no module `body.O`; nearest: .*body.0"):
        Taps(graph_of(net) if exported else net, ["body.O"])


def test_a_tap_that_captures_nothing_is_an_error(net: Net) -> None:
    with pytest.raises(InputError, match="unused captured nothing"):
        Taps(net, ["unused"]).run(X)


def test_a_side_that_is_not_known_is_refused(net: Net) -> None:
    with pytest.raises(InputError, match="write PATH, or PATH:input"):
        Taps(net, ["body:output"])


def test_a_graph_stops_and_is_replaced_like_any_network(net: Net) -> None:
    graph = graph_of(net)
    ran = []
    head = next(node for node in graph.graph.nodes if str(node.target).startswith("aten.linear"))  # type: ignore[union-attr]
    real = torch.ops.aten.linear.default

    def noted(*given: torch.Tensor) -> torch.Tensor:
        ran.append("head")
        return real(*given)

    head.target = noted
    outputs, features = Taps(graph, ["stem", "body"]).run(X, outputs=False)
    assert not ran and not outputs and set(features) == {"stem", "body"}
    tokens = torch.randn(2, 6, 5, 5)
    outputs, _ = Taps(graph, []).run(X, replaced={"body": tokens})
    assert ran
    torch.testing.assert_close(outputs["output"], net.head(tokens.mean((2, 3))))


@pytest.mark.parametrize("kind", ["pt2", "torchscript"])
def test_an_archive_has_the_places_of_its_network(net: Net, kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("net.pt2" if kind == "pt2" else "net.pt")
    names = ["stem.0", "body.0", "body.1", "body.1:input", "head:input", PENULTIMATE]
    if kind == "pt2":  # says of every operation which modules it came from
        names += ["stem", "body", "body.2"]
        torch.export.save(torch.export.export(net, (X["x"],)), path)
    else:
        del net.unused  # a weight that nothing uses is refused there
        torch.jit.script(net).save(path)
    opened = open_model(path, Opening(inputs=parse_inputs(["x:2x1x5x5"]))).state.torch.module
    outputs, features = Taps(opened, names).run(X)
    wanted, known = Taps(net, names).run(X)
    torch.testing.assert_close(next(iter(outputs.values())), wanted["output"])
    for name in names:
        torch.testing.assert_close(features[name], known[name], msg=name)
    with pytest.raises(InputError, match="no module `bodies`; nearest: body"):
        Taps(opened, ["bodies"])


def test_a_convolution_before_a_norm_gives_its_own_answer_in_a_fake_quantized_graph(net: Net) -> None:
    """There its weights are scaled by the norm's factors, and its bias comes later."""
    norm = net.body[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.running_var.fill_(4.0), norm.weight.fill_(0.5), norm.running_mean.normal_()  # type: ignore[union-attr]
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 1, 5, 5)),))
    graph = prepare_graph(net, signature, Simulation(scheme=QuantizationScheme()))
    for rounder in rounders(graph).values():
        rounder.disable_fake_quant()
        rounder.disable_observer()
    names = ["stem.0", "body.0", "body.1", "body.0:input", "head:input", PENULTIMATE]
    _, features = Taps(graph, names).run(X)
    _, known = Taps(net, names).run(X)
    for name in names:
        torch.testing.assert_close(features[name], known[name], msg=name)
