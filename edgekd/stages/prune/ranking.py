"""The importance of channels as Torch-Pruning asks for it: by head where heads go as a whole, and for each unit of cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from edgekd.data import Part
from edgekd.stages.prune.groups import whole_of
from edgekd.stages.prune.importance import IMPORTANCES
from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.whole_heads import WholeHeads, by_head, head_norms


class Ranking:
    """Scores groups of channels of a network as it is now, and remembers what it said."""

    def __init__(
        self,
        module: nn.Module,
        settings: PruneSettings,
        attentions: Sequence[WholeHeads],
        calibration: Part | None,
        costs: Mapping[str, float],
    ) -> None:
        self.module = module
        self._score = IMPORTANCES[settings.importance].measure(module, calibration)
        ranks_heads = settings.importance == "activation" and attentions
        self._norms = head_norms(module, attentions, calibration) if ranks_heads and calibration is not None else {}
        self._whole = {module.get_submodule(one.query): one for one in attentions}
        self._prices = {module.get_submodule(name): cost for name, cost in costs.items()}
        self._said: dict[Any, Tensor] = {}

    def __call__(self, group: Any) -> Tensor | None:
        """Return the importance of a whole group, (channels,); channels that are zero everywhere are worth nothing."""
        values = self._score(group)
        if values is None:
            return None
        heads = self.heads_of(group)
        values = values if heads is None else by_head(values, heads, self._norms)
        price = next((self._prices[dep.target.module] for dep, _ in group if dep.target.module in self._prices), 1.0)
        self._said[_root(group)] = values.nan_to_num(0.0) / price
        return self._said[_root(group)]

    def said(self, group: Any) -> Tensor:
        """Return the importance of all channels of a group of which some are proposed for a cut."""
        return self._said[_root(group)]

    def heads_of(self, group: Any) -> WholeHeads | None:
        """Return the attention whose heads go as a whole that a group is."""
        return whole_of(group, self._whole)


def _root(group: Any) -> tuple[Any, Any]:
    return group[0].dep.target.module, group[0].dep.handler
