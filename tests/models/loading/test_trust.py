"""Only classes are trusted: torch's layers and our networks one by one, and those of packages the user names."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.errors import InputError
from edgekd.models.loading import load_network
from edgekd.models.loading.trust import layer_classes, only, trusted_globals

from .crafted import Marker, call_pickle, save_zip, stack_pickle


def test_layers_are_those_of_torch_nn() -> None:
    layers = layer_classes()
    assert {nn.Conv2d, nn.LSTM, nn.MultiheadAttention, nn.Sequential} <= set(layers)
    assert not any("Lazy" in layer.__name__ for layer in layers)
    assert all(layer.__module__.startswith("torch.nn.modules.") for layer in layers)


@pytest.mark.parametrize("package", ["torch", "torch.nn", "edgekd", "os", "builtins", "subprocess", "__main__"])
def test_packages_that_could_run_commands_are_refused(package: str, good_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=f"--trust {package}: .*to run commands"):
        load_network(good_files["module"], trust=[package])


@pytest.mark.parametrize("package", ["", "my package", "../x", "a..b", "x;y"])
def test_names_that_are_no_packages_are_refused(package: str, good_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="name a package"):
        load_network(good_files["module"], trust=[package])


def saved_network(path: Path) -> Path:
    import importlib

    torch.save(importlib.import_module("my_package.nets").build(), path)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]
    return path


def test_a_trusted_package_loads(my_package: Path, tmp_path: Path) -> None:
    path = saved_network(tmp_path / "model.pt")
    network = load_network(path, trust=["my_package"])
    assert type(network).__name__ == "Net" and network.settings.kind.value == "wide"
    assert network(torch.ones(1, 4)).shape == (1, 2)


def test_a_module_of_a_package_can_be_trusted_alone(my_package: Path, tmp_path: Path) -> None:
    assert load_network(saved_network(tmp_path / "model.pt"), trust=["my_package.nets"])
    with pytest.raises(InputError, match=r"my_package\.nets\.Net"):
        load_network(tmp_path / "model.pt", trust=["my_package.other"])


def test_the_refusal_lists_everything_and_says_how_to_trust(my_package: Path, tmp_path: Path) -> None:
    path = saved_network(tmp_path / "model.pt")
    with pytest.raises(InputError) as caught:
        load_network(path)
    text = str(caught.value)
    for name in ("my_package.nets.Net", "my_package.nets.Settings", "my_package.nets.Kind"):
        assert f"  - {name}: if it is a class and you trust that package: --trust my_package\n" in text
    assert "--model" in text
    assert "my_package" not in sys.modules


def test_a_package_is_not_imported_unless_the_file_asks(my_package: Path, good_files: dict[str, Path]) -> None:
    load_network(good_files["module"], trust=["my_package"])
    assert "my_package" not in sys.modules


def test_packages_of_the_current_folder_can_be_trusted(
    my_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved_network(tmp_path / "model.pt")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(my_package.parent))])
    monkeypatch.chdir(my_package.parent)
    before = list(sys.path)
    assert load_network(path, trust=["my_package"])
    assert sys.path == before


@pytest.mark.parametrize(
    ("module", "name", "reason"),
    [
        ("my_package", "system", "not a class"),
        ("my_package", "run", "not a class"),
        ("my_package", "Shell", "neither a torch module nor an Enum nor a dataclass"),
        ("my_package", "subprocess.Popen", "belongs to subprocess, not to my_package"),
        ("my_package.subprocess", "Popen", "cannot be imported"),
        ("my_package", "os.system", "not a class"),
        ("my_package.nets", "nn.Linear", "belongs to torch.nn.modules.linear, not to my_package"),
        ("my_package.nets", "build", "not a class"),
        ("my_package.__main__", "Net", "would run a program"),
        ("my_package.missing", "Net", "cannot be imported"),
        ("my_package_evil", "Net", "--trust my_package_evil"),
        ("os", "system", "part of Python itself, never trusted"),
        ("builtins", "eval", "part of Python itself, never trusted"),
        ("__main__", "Net", "a class of the script that saved the file"),
        ("torch.hub", "load", "not one of the layer classes"),
        ("torch.fx.graph_module", "reduce_graph_module", "not one of the layer classes"),
        ("edgekd.files", "sha256", "not one of the layer classes"),
        ("numpy", "load", "not a class"),
    ],
)
@pytest.mark.parametrize("pickled", [call_pickle, stack_pickle])
def test_trust_reaches_no_further_than_the_classes_of_the_package(
    module: str, name: str, reason: str, pickled: object, my_package: Path, tmp_path: Path, marker: Marker
) -> None:
    assert callable(pickled)
    path = save_zip(tmp_path / "model.pt", pickled(module, name, marker.command))
    with pytest.raises(InputError) as caught:
        load_network(path, trust=["my_package"])
    assert f"  - {module}.{name}: " in str(caught.value) and reason in str(caught.value)
    assert not marker.exists


def test_without_the_checks_the_package_would_run_a_command(my_package: Path, tmp_path: Path, marker: Marker) -> None:
    path = save_zip(tmp_path / "model.pt", call_pickle("my_package", "run", marker.command))
    torch.load(path, weights_only=False)
    assert marker.take()


def test_what_other_libraries_have_registered_does_not_count(tmp_path: Path, marker: Marker) -> None:
    path = save_zip(tmp_path / "model.pt", call_pickle("pathlib", "Path", "x"))
    with torch.serialization.safe_globals([Path]):
        with pytest.raises(InputError, match=r"pathlib\.Path"):
            load_network(path)
        with only(trusted_globals(path, [], [])):
            assert Path not in torch.serialization.get_safe_globals()
        assert Path in torch.serialization.get_safe_globals()
