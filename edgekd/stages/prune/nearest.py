"""The last cuts in multiples, where one cut by rank is far below the budget.

```
by rank:   ... 58 % ─────────────────── 39 %      the next group in rank is the widest stream of the network
nearest:   ... 58 % ── 54 % ── 49.6 %             a multiple of this group, and one of that
```
edgekd variant: of every group the least important multiple is cut alone. Of those cuts that meet the budget the nearest to
it is kept in mind; while it is far below, the largest cut that does not meet it is made, and all are tried again.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from edgekd.data import Part
from edgekd.models.signature import Signature
from edgekd.stages.prune.budget import Budget
from edgekd.stages.prune.fewest import Fewest, made_again
from edgekd.stages.prune.groups import prunable_groups
from edgekd.stages.prune.one_group import channels_of
from edgekd.stages.prune.ranking import Ranking
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.tracing import graph_of, whole_group
from edgekd.stages.prune.whole_heads import WholeHeads
from edgekd.stages.prune.widths import least_important, least_width


def nearest(
    found: Fewest,
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    attentions: Sequence[WholeHeads],
    budget: Budget,
    calibration: Part | None = None,
) -> Fewest:
    """Return a network nearer to the budget than one that was found, or that one.

    Args:
        found: within the budget, and far below it; its last cut is replaced.
        module: the network before the first cut.
        signature: its inputs.
        settings: the importance, the largest cut, and what may be cut.
        granularity: what channel counts stay multiples of.
        attentions: whose heads go as a whole.
        budget: to meet; it has to be one that is counted, since every cut of each step is measured.
        calibration: samples, for importances that need them.
    """
    best, history, over = found, found.history[:-1], found.before
    network = made_again(module, signature, history, attentions)
    while best.is_far(budget):
        above = []
        for cut in _multiples(network, module, signature, settings, granularity, attentions, calibration):
            candidate = made_again(module, signature, [*history, cut], attentions)
            left = budget.measure(candidate)
            if best.after < left <= budget.limit:
                best = Fewest(candidate, [*history, cut], over, left)
            elif budget.limit < left < over:
                above.append((left, cut, candidate))
        if not above:
            break
        over, cut, network = min(above, key=lambda one: one[0])
        history = [*history, cut]
    return best


def _multiples(
    network: nn.Module,
    uncut: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    attentions: Sequence[WholeHeads],
    calibration: Part | None,
) -> Iterator[list[Any]]:
    """Yield, for every group that may lose one, the cut of its least important multiple."""
    graph, ranking = graph_of(network, signature), Ranking(network, settings, attentions, calibration, {})
    for group in prunable_groups(network, signature, settings.keep, settings.axes):
        layer, multiple = network.get_submodule(group.root), group.multiple(granularity)
        whole = channels_of(uncut.get_submodule(group.root)) // group.parts
        width = group.channels // group.parts
        kept = (width - 1) // multiple * multiple
        values = ranking(whole_group(graph, layer))
        if kept >= least_width(whole, settings.largest_cut, multiple) and values is not None:
            yield [group.root, True, least_important(values, group.parts, width - kept)]
