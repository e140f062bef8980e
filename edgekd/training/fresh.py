"""New weights for a network, for the arm that is trained from scratch."""

import copy
import math

import torch
from torch import nn

from edgekd.training.masks import Masks


@torch.no_grad()
def fresh(module: nn.Module) -> nn.Module:
    """Return a copy with newly initialized weights, layer by layer as torch does.

    Parameters that no layer initializes (a position embedding, for one) are drawn from a normal distribution of standard
    deviation 0.02, as in Dosovitskiy et al., 2021; vectors among them become 0 if they are biases, else 1. Masked weights
    stay zero, so that the network is the same one.
    """
    module = copy.deepcopy(module)
    masks = Masks(module)
    trained = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    for parameter in trained:
        parameter.fill_(math.nan)  # so that it shows what nothing initializes
    for layer in module.modules():
        for name in ("_reset_parameters", "reset_parameters"):
            reset = getattr(layer, name, None)
            if callable(reset):
                reset()
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and parameter.isnan().any():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            else:
                parameter.fill_(0.0 if "bias" in name.rpartition(".")[2] else 1.0)
    masks.apply()
    return module
