"""Weights alone: the factory builds the network, and every difference is named."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.loading import load_network
from edgekd.models.loading.factory import build, load_weights

from .crafted import FACTORY, Picture, small_network


def test_weights_fill_the_network(network: nn.Module, image: Tensor, good_files: dict[str, Path]) -> None:
    for form in ("state-dict", "legacy", "safetensors"):
        loaded = load_network(good_files[form], factory=FACTORY)
        assert not loaded.training
        torch.testing.assert_close(loaded(image), network(image))


def test_weights_alone_need_a_factory(good_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"weights only \(9 tensors: 0\.weight, 0\.bias.*--model"):
        load_network(good_files["state-dict"])


def test_a_whole_network_needs_none(good_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="leave out --model"):
        load_network(good_files["module"], factory=FACTORY)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model."])
def test_prefixes_of_wrappers_are_dropped(prefix: str, network: nn.Module, image: Tensor, tmp_path: Path) -> None:
    weights = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "model.pt")
    torch.testing.assert_close(load_network(tmp_path / "model.pt", factory=FACTORY)(image), network(image))


def test_a_submodule_called_module_keeps_its_name(network: nn.Module, tmp_path: Path) -> None:
    wrapped = nn.Module()
    wrapped.module = network
    weights = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
    other = nn.Module()
    other.module = small_network()
    load_weights(other, weights, tmp_path)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in other.state_dict().items())


def test_compiled_parts_are_found(network: nn.Module, tmp_path: Path) -> None:
    weights = {name.replace("0.", "0._orig_mod."): tensor for name, tensor in network.state_dict().items()}
    load_weights(small_network(), weights, tmp_path)


def test_missing_and_unexpected_names_are_listed(network: nn.Module, tmp_path: Path) -> None:
    weights = {name.replace("4.", "head."): tensor for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(small_network(), weights, tmp_path / "model.pt")
    assert "2 missing in the file: 4.weight, 4.bias\n" in str(caught.value)
    assert "2 not in the network: head.weight, head.bias\n" in str(caught.value)


def test_shapes_that_differ_are_listed_and_counted(tmp_path: Path) -> None:
    wide = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    narrow = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    with pytest.raises(InputError, match=r"8 shapes that differ: 0\.weight \(3, 3\) instead of \(2, 2\).* and 3 more"):
        load_weights(narrow, wide.state_dict(), tmp_path / "model.pt")


def test_tied_weights_may_be_saved_once(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    weights = {name: tensor for name, tensor in network.state_dict().items() if name != "1.weight"}
    load_weights(network, weights, tmp_path)


def test_batch_counters_of_old_files_may_be_missing(network: nn.Module, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    load_weights(small_network(), weights, tmp_path)


@pytest.mark.parametrize("factory", ["my_package.nets", "a:b:c", ":build", "x y:z", "os;system:x", "my_package.nets:"])
def test_malformed_factories_are_refused(factory: str) -> None:
    with pytest.raises(InputError, match="write it as package.module:function"):
        build(factory)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_such_package:build", "ModuleNotFoundError"),
        ("my_package.nets:no_such_function", "AttributeError"),
        ("my_package.nets:fail", "RuntimeError: no such width"),
        ("my_package.nets:build_text", r"returned a str, not a torch\.nn\.Module"),
    ],
)
def test_factories_that_fail_say_why(factory: str, message: str, my_package: Path) -> None:
    with pytest.raises(InputError, match=message):
        build(factory)


def test_the_current_folder_is_searched(my_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(my_package.parent))])
    monkeypatch.chdir(my_package.parent)
    assert isinstance(build("my_package.nets:build"), nn.Module)
    assert isinstance(build("my_package.nets:Net"), nn.Module)
    assert isinstance(build(f"{Picture.__module__}:Picture"), nn.Sequential)
