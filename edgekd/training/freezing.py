"""Modules that are not trained for a while."""

import contextlib
from collections.abc import Iterator, Sequence

from torch import nn

from edgekd.models.taps import check_module


@contextlib.contextmanager
def frozen(student: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Take the parameters of the named modules out of the training for the time being."""
    held = []
    for name in names:
        check_module(student, name)
        held += [p for p in student.get_submodule(name).parameters() if p.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def hold(student: nn.Module, names: Sequence[str]) -> None:
    """Put the named modules back into evaluation mode, so that their statistics stay."""
    for name in names:
        student.get_submodule(name).eval()
