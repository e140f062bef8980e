"""Safe loading of model files from strangers: nothing in a file is run, whatever its format."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.loading.detect import Format, detect_format
from edgekd.models.loading.pickle_scan import globals_of
from edgekd.models.loading.reading import reading, shown

if TYPE_CHECKING:
    import onnx

    from edgekd.models.signature import TensorSpec

__all__ = [
    "Format",
    "archive_inputs",
    "check_weights",
    "detect_format",
    "load_network",
    "load_onnx",
    "requested_globals",
]

_NAMED = 3  # tensors that a message names; the rest is counted


def load_network(
    path: str | Path,
    *,
    trust: Sequence[str] = (),
    factory: str | None = None,
    example_inputs: tuple[Tensor, ...] | None = None,
) -> nn.Module:
    """Return the network of a model file: in eval mode, on the CPU, with float32 weights.

    Args:
        path: a torch.save file, safetensors, TorchScript or `.pt2`; its content decides which.
        trust: packages whose classes a pickled network may consist of, besides torch's layers and edgekd's networks.
        factory: `package.module:function` that builds the network, where the file holds weights only.
        example_inputs: inputs for the network, which TorchScript files need.

    Raises:
        InputError: no model file, damaged, not trusted, or the weights do not fit or are not finite.
    """
    path = Path(path)
    form = detect_format(path)
    if form == "onnx":
        raise InputError(
            f"{path} is an ONNX model: it can be quantized, profiled and verified, but not trained or pruned. "
            "For those, give the PyTorch network it was exported from."
        )
    network: nn.Module | dict[str, Tensor]
    if form in ("module", "state-dict"):
        from edgekd.models.loading.pickled import load_pickled

        network = load_pickled(path, trust)
    elif form == "safetensors":
        from edgekd.models.loading.safetensors_file import load_safetensors

        network = load_safetensors(path)
    elif form == "torchscript":
        from edgekd.models.loading.torchscript import load_torchscript

        network = load_torchscript(path, example_inputs)
    else:
        from edgekd.models.loading.exported import load_exported

        network = load_exported(path)
    with reading(path):
        if isinstance(network, nn.Module):
            if factory is not None:
                raise InputError(f"{path} holds a whole network; leave out --model, which is for weights alone.")
        else:
            network = _filled(path, network, factory)
        is_graph = form in ("torchscript", "exported-program")
        _check_names(path, network)
        check_weights(path, network, is_graph)
        return network.eval() if is_graph else network.float().eval()


def load_onnx(path: str | Path) -> "onnx.ModelProto":
    """Return a checked ONNX model with all of its data in memory.

    Raises:
        InputError: no ONNX file, damaged, too new for ONNX Runtime, or it reaches for files outside its folder.
    """
    path = Path(path)
    form = detect_format(path)
    if form != "onnx":
        raise InputError(f"{path} is not an ONNX model but a {form} file of PyTorch.")
    from edgekd.models.loading.onnx_file import load_onnx_file

    return load_onnx_file(path)


def archive_inputs(path: str | Path) -> "tuple[TensorSpec, ...]":
    """Return name, shape and dtype of the inputs where the file says them (`.pt2`), else nothing."""
    path = Path(path)
    if detect_format(path) != "exported-program":
        return ()
    from edgekd.models.loading.exported import exported_inputs

    return exported_inputs(path)


def requested_globals(path: str | Path) -> list[str]:
    """Return the names of all classes and functions that a file's pickles ask for; nothing is loaded."""
    return sorted(f"{module}.{name}" for module, name in globals_of(Path(path)))


def _filled(path: Path, weights: dict[str, Tensor], factory: str | None) -> nn.Module:
    if factory is None:
        names = ", ".join(shown(name) for name in list(weights)[:_NAMED])
        raise InputError(
            f"{path} holds weights only ({len(weights)} tensors: {names}, ...), not the network they belong to. "
            "Name the function that builds it: --model my_package.module:function."
        )
    from edgekd.models.loading.factory import build, load_weights

    network = build(factory)
    load_weights(network, weights, path)
    return network


def _check_names(path: Path, network: nn.Module) -> None:
    """Refuse names of layers and tensors that are more than names: torch.fx writes them into code, unescaped."""
    for place, module in network.named_modules():
        where = shown(place) or "the network"
        for name in (*module._modules, *module._parameters, *module._buffers):
            if not isinstance(name, str) or not re.fullmatch(r"[\w+/: -]+", name):
                raise InputError(f"{path}: {where} has a part named {shown(str(name))!r}. Give it a plain name.")


def check_weights(path: str | Path, network: nn.Module, is_graph: bool = False) -> None:
    """Refuse a network without weights, and weights that no training or export could use; `path` begins the message.

    Raises:
        InputError: there are none, they are no plain float32 tensors, or they are not finite.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    if not tensors:
        raise InputError(f"{path} has no weights at all: there is nothing to compress. Is it the right file?")
    parameters = {name for name, _ in network.named_parameters()}
    faulty = []
    for name, tensor in tensors:
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
            raise InputError(f"{path}: {shown(name)} is no plain tensor with data. Save the float network.")
        if not tensor.is_floating_point():
            continue
        if is_graph and name in parameters and tensor.dtype != torch.float32:
            raise InputError(f"{path}: {shown(name)} is {tensor.dtype}. Export the network in float32, model.float().")
        may_be_infinite = name not in parameters and "running_" not in name  # a mask, for instance
        wrong = tensor.isnan() if may_be_infinite else ~tensor.isfinite()
        if wrong.any():
            faulty.append(shown(name))
    if faulty:
        more = f" and {len(faulty) - _NAMED} more tensors" if len(faulty) > _NAMED else ""
        raise InputError(
            f"{path} has NaN or infinite weights in {', '.join(faulty[:_NAMED])}{more}. "
            "The training diverged or the file is damaged: take an earlier checkpoint."
        )
