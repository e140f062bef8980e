"""How many heads an attention has, where its code reads the number from an attribute."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from edgekd.models.signature import Signature

KIND = "head-counts"


def heads_edit(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the edit that sets the number of heads: path of the attribute to number."""
    return {"kind": KIND, "counts": dict(counts)}


def set_head_counts(module: nn.Module, edit: dict[str, Any], signature: Signature) -> nn.Module:
    """Set the numbers of heads of an edit, in place, and return the network. The attributes are there and hold integers."""
    for path, count in edit["counts"].items():
        owner, _, name = path.rpartition(".")
        attention = module.get_submodule(owner)
        assert type(vars(attention)[name]) is int
        setattr(attention, name, int(count))
    return module
