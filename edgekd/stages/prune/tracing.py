"""Torch-Pruning's dependency graph of a network."""

import warnings
from typing import Any

from torch import nn

from edgekd.errors import EdgekdError, InputError
from edgekd.models.network import example_inputs
from edgekd.models.signature import Signature


def graph_of(module: nn.Module, signature: Signature) -> Any:
    """Return Torch-Pruning's dependency graph.

    Raises:
        InputError: the network cannot be traced.
    """
    import torch_pruning as tp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return tp.DependencyGraph().build_dependency(module, tuple(example_inputs(signature).values()))
        except EdgekdError:
            raise
        except Exception as error:  # whatever the tracing of a strange network raises
            raise InputError(
                f"cannot trace the network for pruning: {error}; distill and quantize still work"
            ) from error
