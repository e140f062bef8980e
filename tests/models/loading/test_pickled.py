"""torch.save files: networks and weights load; whatever would run does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.loading import detect_format, load_network
from edgekd.models.loading.pickled import load_pickled
from edgekd.models.networks.resnet8 import ResNet8

from .crafted import Marker, Payload, call_pickle, evaluated, save_tar, save_zip, shell, stack_pickle


def test_networks_round_trip(network: nn.Module, image: Tensor, tmp_path: Path) -> None:
    torch.save(network.train(), tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt")
    assert not loaded.training
    torch.testing.assert_close(loaded(image), network.eval()(image))


def test_networks_in_the_old_format_are_refused(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="format of torch before 1.6"):
        load_network(tmp_path / "model.pt")


def test_bundled_networks_load_without_trust(tmp_path: Path) -> None:
    torch.save(ResNet8(), tmp_path / "model.pt")
    assert isinstance(load_network(tmp_path / "model.pt"), ResNet8)


def test_layers_that_hold_functions_load(tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
    torch.save(nn.Sequential(layer, nn.LSTM(8, 4)), tmp_path / "model.pt")
    assert load_network(tmp_path / "model.pt")


def test_half_precision_becomes_float(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.half(), tmp_path / "model.pt")
    assert {tensor.dtype for tensor in load_network(tmp_path / "model.pt").parameters()} == {torch.float32}


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "ema"])
def test_checkpoints_are_unwrapped(key: str, network: nn.Module, tmp_path: Path) -> None:
    checkpoint = {"epoch": 3, key: network.state_dict(), "optimizer": {"state": {0: torch.zeros(1)}}}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    weights = load_pickled(tmp_path / "checkpoint.pt")
    assert isinstance(weights, dict) and weights.keys() == network.state_dict().keys()


def test_a_network_in_a_checkpoint_needs_no_factory(network: nn.Module, tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": network}, tmp_path / "checkpoint.pt")
    assert detect_format(tmp_path / "checkpoint.pt") == "state-dict"
    assert isinstance(load_network(tmp_path / "checkpoint.pt"), nn.Sequential)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"epoch": 3}, {}, "text"])
def test_files_without_a_network_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match="neither a network nor weights"):
        load_network(tmp_path / "model.pt")


Craft = Callable[[Path, Marker], object]

MALICIOUS: dict[str, Craft] = {
    "zip, GLOBAL": lambda path, marker: torch.save({"a": shell(marker)}, path),
    "zip, eval": lambda path, marker: torch.save({"a": evaluated(marker)}, path),
    "zip, STACK_GLOBAL": lambda path, marker: torch.save({"a": shell(marker)}, path, pickle_protocol=4),
    "zip, crafted": lambda path, marker: save_zip(path, call_pickle("os", "system", marker.command)),
    "zip, crafted STACK_GLOBAL": lambda path, marker: save_zip(path, stack_pickle("os", "system", marker.command)),
    "zip, Python 2's name": lambda path, marker: save_zip(path, call_pickle("__builtin__", "eval", marker.expression)),
    "legacy": lambda path, marker: torch.save([evaluated(marker)], path, _use_new_zipfile_serialization=False),
    "tar": lambda path, marker: save_tar(path, call_pickle("os", "system", marker.command)),
    "network": lambda path, marker: torch.save(with_attribute(shell(marker)), path),
    "network, hook": lambda path, marker: torch.save(with_attribute(Payload(eval, marker.expression), "name"), path),
}


def with_attribute(value: object, name: str = "extra") -> nn.Module:
    network = nn.Linear(2, 2)
    setattr(network, name, value)
    return network


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_files_are_refused_and_nothing_runs(name: str, tmp_path: Path, marker: Marker) -> None:
    path = tmp_path / "model.pt"
    MALICIOUS[name](path, marker)
    with pytest.raises(InputError):
        load_network(path)
    assert not marker.exists
    torch.load(path, weights_only=False)  # the positive control: torch's plain loader runs the payload
    assert marker.take()


def test_a_plain_pickle_is_refused(tmp_path: Path, marker: Marker) -> None:
    (tmp_path / "model.pt").write_bytes(call_pickle("os", "system", marker.command))
    with pytest.raises(InputError, match="torch.save did not write"):
        load_network(tmp_path / "model.pt")
    assert not marker.exists


def test_the_message_names_all_that_the_file_asks_for(tmp_path: Path, marker: Marker) -> None:
    torch.save([shell(marker), evaluated(marker), Payload(print, "x")], tmp_path / "model.pt")
    with pytest.raises(InputError) as caught:
        load_network(tmp_path / "model.pt")
    for name in ("posix.system", "builtins.eval", "builtins.print"):
        assert f"  - {name}: part of Python itself, never trusted\n" in str(caught.value)
    assert "--trust posix" not in str(caught.value)


def changed(change: Callable[[Any], object]) -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    change(network)
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (changed(lambda n: n.__dict__.update(forward=nn.functional.relu)), "replaces its own method forward"),
        (changed(lambda n: n[0]._forward_hooks.update({0: nn.functional.relu})), "carries hooks"),
        (changed(lambda n: n._modules.update({"2": "text"})), "not a layer"),
        (changed(lambda n: n[0]._parameters.update({"bias": "text"})), "in place of a tensor"),
        (changed(lambda n: n._modules.update({"2": n})), "cannot be read"),
        (changed(lambda n: n._modules.update({'2"+print(1)+"': nn.ReLU()})), "has a part named"),
        (changed(lambda n: n[0]._buffers.update({"a\nb": torch.ones(1)})), "0 has a part named"),
        (nn.ReLU(), "no weights at all"),
        (nn.Linear(2, 2, device="meta"), "no plain tensor with data"),
        (changed(lambda n: n[0].weight.data.fill_(float("nan"))), "NaN or infinite weights in 0.weight"),
        (changed(lambda n: n[0].bias.data.fill_(float("inf"))), "NaN or infinite weights in 0.bias"),
    ],
)
def test_networks_that_cannot_be_used_are_refused(network: nn.Module, message: str, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        load_network(tmp_path / "model.pt")


def test_names_that_are_code_are_refused(tmp_path: Path, marker: Marker) -> None:
    """torch.fx would write such a name into the code that it compiles."""
    network = nn.Sequential(nn.Linear(2, 2))
    network._modules[f'1"+str({marker.expression})+"'] = nn.Linear(2, 2)
    torch.save(network, tmp_path / "model.pt")
    with pytest.raises(InputError, match="has a part named"):
        load_network(tmp_path / "model.pt")
    with torch.serialization.safe_globals([nn.Sequential, nn.Linear]):  # the positive control
        loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert not marker.exists
    with pytest.raises(AttributeError):
        torch.fx.symbolic_trace(loaded)(torch.ones(1, 2))
    assert marker.take()


def test_infinities_in_a_mask_are_fine(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.full((2,), float("-inf")))
    torch.save(network, tmp_path / "model.pt")
    assert load_network(tmp_path / "model.pt")


def test_weights_of_diverged_trainings_are_named_and_counted(tmp_path: Path) -> None:
    network = nn.Sequential(*(nn.Linear(1, 1) for _ in range(3)))
    for parameter in network.parameters():
        parameter.data.fill_(float("nan"))
    torch.save(network, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"0\.weight, 0\.bias, 1\.weight and 3 more tensors"):
        load_network(tmp_path / "model.pt")
