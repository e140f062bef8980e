"""No more cuts than the budget asks for.

```
history:  step 1 | step 2 | ... | a b c d e     the last step cut five groups, and met the budget
bisected:                         a b c         three of them do
```
A step ranks all channels once and cuts every group that has some of the least important ones; with the multiples of a
large granularity one step may take a tenth of the network, or more. edgekd variant: the cuts of a history are made again
one by one, and only as many as are needed.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgekd.models.edits.channels import prune_edit, remove_channels
from edgekd.models.signature import Signature
from edgekd.stages.prune.budget import Budget
from edgekd.stages.prune.whole_heads import WholeHeads

_NEAR = 0.9  # of the budget: what is below was cut by more than anybody asked for


@dataclass(frozen=True)
class Fewest:
    """A network within the budget, the cuts that made it, and what the budget's measure gave before the last one and after."""

    network: nn.Module
    history: list[list[Any]]
    before: float
    after: float

    def is_far(self, budget: Budget) -> bool:
        """Return whether the network is much smaller than asked."""
        return self.after <= _NEAR * budget.limit

    def in_words(self, made: int, budget: Budget) -> str:
        """Return which of the cuts that were made are kept, and what they leave."""
        layer, _, channels = self.history[-1]
        return (
            f"{len(self.history)} of {made} cuts are kept, the last {len(channels)} channels of {layer}: "
            f"{budget.in_words(self.after)} left"
        )

    def overshoot(self, budget: Budget, granularity: int) -> str | None:
        """Return why the network is much smaller than asked and what comes nearer; None where it is not."""
        if not self.is_far(budget):
            return None
        layer, _, channels = self.history[-1]
        finer = f"a granularity below {granularity}" if granularity > 1 else "more steps, or another importance,"
        return (
            f"{budget.in_words(self.after)} is left where {budget.in_words(budget.limit)} was asked for: the last cut, "
            f"{len(channels)} channels of {layer} and all that goes with them, took it there from "
            f"{budget.in_words(self.before)}; {finer} comes nearer"
        )


def fewest(
    module: nn.Module,
    signature: Signature,
    history: Sequence[Sequence[Any]],
    attentions: Sequence[WholeHeads],
    budget: Budget,
) -> Fewest:
    """Return a copy of a network with as few of the cuts of a history, the first ones, as meet the budget.

    Args:
        module: the network before the first cut, over the budget.
        signature: its inputs.
        history: all cuts, which meet the budget.
        attentions: whose heads went as a whole.
        budget: to meet; that it falls with every cut is taken for granted.
    """
    low, high = 0, len(history)
    before, network = budget.measure(module), made_again(module, signature, history, attentions)
    after = budget.measure(network)
    while high - low > 1:
        middle = (low + high) // 2
        tried = made_again(module, signature, history[:middle], attentions)
        value = budget.measure(tried)
        if value <= budget.limit:
            high, after, network = middle, value, tried
        else:
            low, before = middle, value
    return Fewest(network, [list(entry) for entry in history[:high]], before, after)


def made_again(
    module: nn.Module, signature: Signature, history: Sequence[Sequence[Any]], attentions: Sequence[WholeHeads]
) -> nn.Module:
    """Return a copy of a network with the cuts of a history; its attentions know their heads."""
    network = remove_channels(copy.deepcopy(module), prune_edit(history), signature)
    there = dict(network.named_modules())
    for one in attentions:
        if one.query in there:
            one.recount(network)
    return network
