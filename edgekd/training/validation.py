"""How good a network is on the validation part, while it is trained."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from edgekd.context import Context
from edgekd.evaluate import Outputs, deciding_metric, judge_outputs
from edgekd.models.network import run_network

BATCH = 256


@torch.no_grad()
def network_outputs(network: nn.Module, context: Context) -> Outputs:
    """Run the validation part through a network in eval mode and return its outputs."""
    part = context.parts.validation
    device = next((tensor.device for tensor in network.state_dict().values()), torch.device("cpu"))
    collected: dict[str, list[np.ndarray]] = {}
    for arrays in part.batches(BATCH):
        inputs = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        for name, tensor in run_network(network, inputs).items():
            collected.setdefault(name, []).append(tensor.float().cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in collected.items()}


def validation_score(context: Context) -> Callable[[nn.Module], tuple[float, bool]]:
    """Return a function that scores a network, and says whether higher is better.

    Without labels the network is compared with the uncompressed one.
    """
    part = context.parts.validation
    metric = deciding_metric(context.metric, part)
    reference: Outputs | None = None

    def score(network: nn.Module) -> tuple[float, bool]:
        nonlocal reference
        if metric.fidelity and reference is None and context.reference is not None:
            reference = network_outputs(context.reference().eval(), context)
        return judge_outputs(network_outputs(network, context), reference, part, metric), metric.higher_is_better

    return score
