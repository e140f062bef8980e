"""Small layers that edits put in place of others."""

from typing import Any

import torch
from torch import Tensor, nn


class Zero(nn.Module):
    """Nothing, where a branch was that is added to others: a scalar 0, which the exporter drops from sums."""

    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return 0, whatever comes."""
        return self.zero


class Pass(nn.Identity):
    """What comes first comes out; masks and the like that a block was given beside it do not matter."""

    def forward(self, input: Tensor, *others: Any, **named: Any) -> Tensor:  # noqa: A002  # as torch calls it
        """Return the first input."""
        return input
