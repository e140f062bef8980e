"""Reads torch.save files: whole networks and their weights, only ever through torch's weights-only unpickler."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.loading.pickle_scan import globals_of
from edgekd.models.loading.reading import reading, shown
from edgekd.models.loading.trust import only, trusted_globals

# Where training scripts put the network or its weights in a checkpoint, in the order in which they are tried.
_CHECKPOINT_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
    "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema",
)  # fmt: skip
_MAX_DEPTH = 4


def load_pickled(path: Path, trust: Sequence[str] = ()) -> nn.Module | dict[str, Tensor]:
    """Return the network that a torch.save file holds, or its weights.

    Raises:
        InputError: the file asks for something that is not trusted, is damaged, or holds neither.
    """
    with reading(path):
        trusted = trusted_globals(path, globals_of(path), trust)
        try:
            with only(trusted), path.open("rb") as file:  # a file object: torch.load goes by the suffix of a path
                content = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            reason = shown(str(error).split("WeightsUnpickler error: ")[-1].strip().splitlines()[0])
            if "persistent_load" in reason:
                reason = "a whole network in the format of torch before 1.6"
            raise InputError(
                f"{path} needs more than torch's safe reader does ({reason}), so nothing of it was loaded. "
                "Save only the weights, torch.save(model.state_dict(), 'weights.pt')."
            ) from error
        return _network_or_weights(path, content)


def _network_or_weights(path: Path, content: Any, depth: int = 0) -> nn.Module | dict[str, Tensor]:
    if isinstance(content, nn.Module):
        _check_structure(path, content)
        return content
    if isinstance(content, Mapping) and depth < _MAX_DEPTH:
        for key in _CHECKPOINT_KEYS:
            if isinstance(content.get(key), nn.Module | Mapping):
                return _network_or_weights(path, content[key], depth + 1)
        weights = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
        if weights:
            return weights
    raise InputError(
        f"{path} holds a {shown(type(content).__name__)}, neither a network nor weights. "
        "Save torch.save(model, ...) or torch.save(model.state_dict(), ...)."
    )


def _check_structure(path: Path, network: nn.Module) -> None:
    """Refuse a network whose pickle has put something else where torch expects modules, tensors and methods."""
    pending: list[tuple[str, Any]] = [("", network)]
    seen: set[int] = set()
    while pending:
        name, module = pending.pop()
        if module is None or id(module) in seen:
            continue
        where = f"{path}: {shown(name) or 'the network'}"
        if not isinstance(module, nn.Module):
            raise InputError(f"{where} is a {shown(type(module).__name__)}, not a layer. The file is damaged.")
        seen.add(id(module))
        attributes = vars(module)
        for key, value in attributes.items():
            if key.endswith("_hooks") and value:
                raise InputError(
                    f"{where} carries hooks ({shown(key)}), which could hide code. "
                    "Remove them (torch.nn.utils.remove_weight_norm, for instance) and save again."
                )
            if callable(getattr(type(module), key, None)):
                raise InputError(f"{where} replaces its own method {shown(key)}. Save the plain network.")
        tensors = {**attributes["_parameters"], **attributes["_buffers"]}
        if not all(tensor is None or isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise InputError(f"{where} holds something else in place of a tensor. The file is damaged or crafted.")
        pending += [(f"{name}.{key}".lstrip("."), child) for key, child in attributes["_modules"].items()]
