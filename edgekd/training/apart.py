"""What trains beside a network stays apart from it: nothing but the student leaves a training, and so reaches an export."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from edgekd.errors import StageError

ITSELF = "the network itself"


def structure(network: nn.Module) -> dict[str, str]:
    """Return what a network is made of, by path: every module with its class and hooks, and every tensor."""
    found = {}
    for path, module in network.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
        found[path or ITSELF] = f"{type(module).__name__}, {hooks} hooks"
    return found | {name: "tensor" for name, _ in _tensors(network)}


def check_apart(before: Mapping[str, str], student: nn.Module, memories: Mapping[str, nn.Module]) -> None:
    """Check that a student is made of the same parts as `before`, and that no memory (by its method) shares a tensor.

    Raises:
        StageError: a projector, router, memory or policy would be exported with the student; the message names it.
    """
    now = structure(student)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise StageError(
            f"training changed what the student is made of: {', '.join(changed)}; "
            "what lives only in training must not reach an export"
        )
    owned = {tensor.untyped_storage().data_ptr(): name for name, tensor in _tensors(student) if tensor.numel()}
    for kind, memory in memories.items():
        for name, tensor in _tensors(memory):
            mine = owned.get(tensor.untyped_storage().data_ptr()) if tensor.numel() else None
            if mine is not None:
                raise StageError(
                    f"{kind} keeps {mine} of the student as its own {name}; what lives only in training must not reach "
                    "an export"
                )


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()
