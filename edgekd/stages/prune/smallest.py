"""The smallest network that a person allows: a budget below it is out of reach, and known to be before the first cut."""

import copy

from torch import nn

from edgekd.models.edits.branches import drop_edit, drop_modules
from edgekd.models.signature import Signature
from edgekd.stages.prune.depth import order_of, rows_of
from edgekd.stages.prune.groups import prunable_groups
from edgekd.stages.prune.pruner import prune_to_shares
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.whole_heads import whole_heads


def smallest(module: nn.Module, signature: Signature, settings: PruneSettings, granularity: int) -> nn.Module:
    """Return a copy of a network that has lost all that may go; which channels and blocks those are does not matter.

    Raises:
        InputError: as `prune_to_shares`.
        StageError: as `prune_to_shares`.
    """
    network = copy.deepcopy(module).eval()
    if settings.cuts_depth:
        rows = rows_of(network, signature, settings.keep)
        order = order_of(rows, {name: 0.0 for row in rows for name in row.removable}, settings.largest_cut)
        drop_modules(network, drop_edit(order, "identity"), signature)
    if settings.cuts_widths:
        groups = prunable_groups(network, signature, settings.keep, settings.axes)
        plain = settings.model_copy(update={"importance": "magnitude"})
        nothing = dict.fromkeys((group.axis for group in groups), 0.0)
        prune_to_shares(network, signature, plain, granularity, nothing, groups, whole_heads(network, signature))
    return network
