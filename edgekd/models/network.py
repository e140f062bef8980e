"""Running a torch network by the names of its signature, and learning its outputs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.signature import Signature, make_signature, tensor_spec


def named_outputs(raw: Any) -> dict[str, Tensor]:
    """Return a network's answer as named tensors: a tensor is `output`, a sequence `output1`, ..., a mapping itself.

    Raises:
        InputError: the answer holds something else than tensors.
    """
    if isinstance(raw, Tensor):
        return {"output": raw}
    if isinstance(raw, Mapping):
        named = {str(name): value for name, value in raw.items()}
    elif isinstance(raw, (tuple, list)):
        named = {f"output{position + 1}": value for position, value in enumerate(raw)}
    else:
        raise InputError(
            f"the network returns {type(raw).__name__}; tensors, sequences or dictionaries of them are read"
        )
    wrong = [name for name, value in named.items() if not isinstance(value, Tensor)]
    if wrong:
        raise InputError(f"the network's outputs {', '.join(wrong)} are no tensors")
    return named


def run_network(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Call a network with its inputs in the signature's order."""
    return named_outputs(module(*inputs.values()))


def example_inputs(signature: Signature, batch: int = 2) -> dict[str, Tensor]:
    """Return random inputs as tensors, for tracing."""
    return {name: torch.from_numpy(array) for name, array in signature.random_inputs(batch).items()}


@torch.no_grad()
def learn_outputs(module: nn.Module, signature: Signature) -> Signature:
    """Return the signature with its outputs, learned by running the network on a random batch of two.

    Raises:
        InputError: the network does not take these inputs; its own message is shown.
    """
    shapes = ", ".join(f"{spec.name} {'x'.join(map(str, spec.sized(2)))}" for spec in signature.inputs)
    try:
        outputs = run_network(module, example_inputs(signature))
    except InputError:
        raise
    except Exception as error:  # whatever the user's forward raises
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if (fixed := getattr(module, "meta", {}).get("static_batch")) is not None:
            raise InputError(
                f"the network does not run on {shapes}: {first}; it was exported for a batch of {fixed} only, so export it "
                'again with a free one: torch.export.export(model, inputs, dynamic_shapes=({0: torch.export.Dim("batch")},))'
            ) from error
        raise InputError(f"the network does not run on {shapes}: {first}; give --input [NAME:]SHAPE") from error
    specs = []
    for name, tensor in outputs.items():
        if tensor.ndim < 1 or len(tensor) != 2:
            raise InputError(f"output {name} has shape {tuple(tensor.shape)}: its first axis is not the batch of two")
        specs.append(tensor_spec(name, tensor.shape[1:], str(tensor.dtype).removeprefix("torch."), f"output {name!r}"))
    return make_signature("the network", **{**dict(signature), "outputs": tuple(specs)})


def count_macs(module: nn.Module, signature: Signature) -> int:
    """Return the multiply-accumulates of one sample: convolutions, linear layers, matrix products and attention.

    Counted by torch's own FLOP counter (two operations a multiply-accumulate).
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*example_inputs(signature, 1).values())
    return int(counter.get_total_flops()) // 2


def unfrozen(module: nn.Module) -> nn.Module:
    """Return the network with gradients for all its weights, whatever was frozen when it was saved."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return module


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
