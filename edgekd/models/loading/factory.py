"""Builds the network that a weights file belongs to, and fills in the weights."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgekd.code import code_digest
from edgekd.errors import InputError
from edgekd.models.loading.reading import shown
from edgekd.models.loading.trust import working_directory_importable

_NAMED = 5  # tensors that a message names; the rest is counted


def build(factory: str) -> nn.Module:
    """Return the network that `package.module:function` builds when it is called without arguments.

    Raises:
        InputError: there is no such function, it fails, or it builds something else.
    """
    function = _function(factory)
    try:
        with working_directory_importable():
            network = function()
    except Exception as error:  # the user's own code runs here
        raise InputError(
            f"--model {factory} failed: {type(error).__name__}: {error}. It must be callable without arguments."
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"--model {factory} returned a {type(network).__name__}, not a torch.nn.Module.")
    return network


def code_of(factory: str) -> str:
    """Return the hash of the source of a factory: of its module, and of the file that defines the function itself."""
    return code_digest(_function(factory), importlib.import_module(factory.partition(":")[0]))


def _function(factory: str) -> Any:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", factory):
        raise InputError(f"--model {shown(factory)}: write it as package.module:function.")
    module, _, name = factory.partition(":")
    try:
        with working_directory_importable():
            function: Any = importlib.import_module(module)
            for part in name.split("."):
                function = getattr(function, part)
    except Exception as error:  # the user's own code runs here
        raise InputError(
            f"--model {factory} failed: {type(error).__name__}: {error}. It must be importable from here."
        ) from error
    return function


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill `network` with all of its weights, in place; prefixes that wrappers add to the names are dropped.

    Raises:
        InputError: names or shapes differ; the message names the first of them.
    """
    expected = network.state_dict()
    renamed = max(_without_prefixes(weights), key=lambda names: len(names.keys() & expected.keys()))
    shapes = [
        f"{name} {tuple(renamed[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in renamed and isinstance(tensor, Tensor) and renamed[name].shape != tensor.shape
    ]
    if shapes:
        raise InputError(_mismatch(path, network, {"shapes that differ": shapes}))
    result = network.load_state_dict(renamed, strict=False)
    tied = {id(tensor) for name, tensor in network.state_dict(keep_vars=True).items() if name in renamed}
    missing = [name for name in result.missing_keys if id(network.state_dict(keep_vars=True)[name]) not in tied]
    if missing or result.unexpected_keys:
        raise InputError(
            _mismatch(path, network, {"missing in the file": missing, "not in the network": result.unexpected_keys})
        )


def _without_prefixes(weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the weights under their own names, without `_orig_mod`, and without the prefixes all names share."""
    variants = [dict(weights)]
    names = {name: ".".join(part for part in name.split(".") if part != "_orig_mod") for name in weights}
    while True:
        variants.append({names[name]: tensor for name, tensor in weights.items()})
        firsts = {name.split(".", 1)[0] for name in names.values()}
        if len(firsts) != 1 or not all("." in name for name in names.values()):
            return variants
        names = {name: short.split(".", 1)[1] for name, short in names.items()}


def _mismatch(path: Path, network: nn.Module, differences: Mapping[str, list[str]]) -> str:
    lines = []
    for what, names in differences.items():
        if names:
            listed = ", ".join(shown(name) for name in names[:_NAMED])
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"  - {len(names)} {what}: {listed}{more}")
    return (
        f"{path} does not fit the network {type(network).__name__} that the factory built:\n"
        + "\n".join(lines)
        + "\nName the factory with which the file was trained, with the same settings (classes, width, channels)."
    )
