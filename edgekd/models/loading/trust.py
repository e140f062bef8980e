"""Decides which classes a file may ask for: torch's layers and edgekd's networks one by one, and what --trust names."""

import dataclasses
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._weights_only_unpickler import _get_allowed_globals
from torch.nn import functional as F

from edgekd.errors import InputError
from edgekd.models.loading.pickle_scan import Global
from edgekd.models.loading.reading import shown

_ACTIVATIONS: tuple[Callable[..., Any], ...] = (  # plain functions of tensors that layer objects hold
    F.relu, F.relu6, F.elu, F.selu, F.celu, F.leaky_relu, F.gelu, F.silu, F.mish, F.softplus, F.softsign, F.tanh,
    F.sigmoid, F.logsigmoid, F.hardtanh, F.hardswish, F.hardsigmoid, F.softmax, F.log_softmax, F.glu,
)  # fmt: skip

Trusted = tuple[Callable[..., Any], str]  # the class, and the name the file knows it by


def layer_classes() -> tuple[type[nn.Module], ...]:
    """Return torch's own layer classes: public in torch.nn, defined in torch.nn.modules, without the lazy ones."""
    public = (value for name, value in sorted(vars(nn).items()) if not name.startswith(("_", "Lazy")))
    layers = [
        value
        for value in public
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__.startswith("torch.nn.modules.")
    ]
    hidden = nn.modules.linear.NonDynamicallyQuantizableLinear  # the one that nn.MultiheadAttention holds
    return (*layers, hidden)


def _built_in() -> dict[str, Trusted]:
    """Return what is trusted without --trust, by the name a pickle uses."""
    from edgekd.models.networks import TRUSTED

    objects: tuple[Callable[..., Any], ...] = (*layer_classes(), *_ACTIVATIONS, *TRUSTED)
    names = ((thing, f"{thing.__module__}.{thing.__qualname__}") for thing in objects)
    return {name: (thing, name) for thing, name in names}


def trusted_globals(path: Path, asked: Iterable[Global], trust: Sequence[str]) -> list[Trusted]:
    """Return what the unpickler may build for this file.

    A package named in `trust` is imported only where the file asks for one of its classes.

    Args:
        path: the file, for the message.
        asked: (module, name) of every global that the file asks for.
        trust: packages that the user trusts.

    Raises:
        InputError: a package cannot be trusted, or the file asks for something else; the message lists all of it.
    """
    for package in trust:
        _check_package(package)
    built_in = _built_in()
    granted = list(built_in.values())
    refused: list[str] = []
    for module, name in sorted(asked):
        full_name = f"{module}.{name}"
        if full_name in built_in or full_name in _get_allowed_globals():
            continue
        owner = next((package for package in trust if _within(module, package)), None)
        if owner is None:
            refused.append(f"{shown(full_name)}: {_advice(module, name)}")
            continue
        with working_directory_importable():
            found = _find(module, name, owner)
        if isinstance(found, str):
            refused.append(f"{shown(full_name)}: {found}")
        else:
            granted.append((found, full_name))
    if refused:
        listing = "\n".join(f"  - {line}" for line in refused)
        raise InputError(
            f"{path} asks for code that is not trusted, so nothing of it was loaded:\n{listing}\n"
            "Where no --trust is offered, save only the weights, torch.save(model.state_dict(), 'weights.pt'), "
            "and name the function that builds the network: --model my_package.module:function."
        )
    return granted


@contextmanager
def only(trusted: Sequence[Trusted]) -> Iterator[None]:
    """Let torch's weights-only unpickler build exactly these, and nothing that other libraries have registered."""
    registered = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(list(trusted)):
            yield
    finally:
        torch.serialization.add_safe_globals(registered)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _standard(top: str) -> bool:
    return top in sys.stdlib_module_names or top in sys.builtin_module_names or top == "__main__"


def _check_package(package: str) -> None:
    """Refuse --trust for packages that hold what runs commands."""
    top = package.split(".")[0]
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", package):
        raise InputError(f"--trust {shown(package)}: name a package, such as --trust my_package.")
    if top in ("torch", "edgekd"):
        raise InputError(
            f"--trust {package}: torch's layer classes and edgekd's networks are already trusted, one by one; "
            "nothing else of these packages is, because a file could use it to run commands. Leave the option out."
        )
    if _standard(top):
        raise InputError(
            f"--trust {package}: {top} is part of Python itself, and a file could use it to run commands. "
            "Trust only the package that defines your network."
        )


def _advice(module: str, name: str) -> str:
    """Return what a person can do about a name of a package that is not trusted; imports nothing."""
    top = module.split(".")[0]
    if top == "__main__":
        return "a class of the script that saved the file; --trust cannot help, as that script is not a package"
    if _standard(top):
        return "part of Python itself, never trusted"
    if top in ("torch", "edgekd"):
        return f"not one of the layer classes of {top} that are trusted one by one"
    if not re.fullmatch(r"\w+", top):
        return "not a name"
    loaded = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if loaded is not None and (reason := _unfit(loaded, top)):
        return reason
    try:
        with working_directory_importable():
            known = importlib.util.find_spec(top) is not None  # of a top-level name: looks, does not import
    except (ImportError, ValueError):
        known = False
    where = "" if known else " (it is not installed here: install it first)"
    return f"if it is a class and you trust that package: --trust {top}{where}"


def _find(module: str, name: str, package: str) -> Any:
    """Return the class that a trusted package defines under this name, or a text: why it is refused."""
    if "__main__" in module.split("."):
        return "importing it would run a program"
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # the package's own code runs here, and may fail in any way
        return f"cannot be imported ({type(error).__name__}: {shown(str(error))})"
    return _unfit(found, package) or found


def _unfit(thing: Any, package: str) -> str | None:
    """Return why --trust does not cover this thing, None if it does."""
    if not isinstance(thing, type):
        return "not a class; of a package only classes can be trusted"
    if not _within(thing.__module__, package):
        return f"belongs to {shown(thing.__module__)}, not to {package}"
    if not (issubclass(thing, nn.Module | Enum) or dataclasses.is_dataclass(thing)):
        return "neither a torch module nor an Enum nor a dataclass, so it is not trusted"
    return None


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Let imports find packages of the current folder, after everything that is installed."""
    folder = str(Path.cwd())
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
