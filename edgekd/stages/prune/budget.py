"""What pruning has to reach."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from edgekd.context import Context
from edgekd.models.network import count_macs, count_parameters
from edgekd.stages.prune.latency import milliseconds_of, share_of
from edgekd.stages.prune.settings import PruneSettings
from edgekd.state import ModelState


@dataclass(frozen=True)
class Budget:
    """What `measure` may give at most: a share of the uncut network's, or milliseconds."""

    name: str
    limit: float
    measure: Callable[[nn.Module], float]

    @property
    def note(self) -> str:
        """Return the name under which notes keep what is left."""
        return "latency_ms" if self.name == "ms" else f"{self.name}_share"

    @property
    def timed(self) -> bool:
        """Return whether it is measured in time, which takes long and wanders."""
        return self.name in ("ms", "latency")

    def notes(self, value: float) -> dict[str, float]:
        """Return what notes keep of a value, and of the limit where it is one of time: a report measures that again."""
        return {self.note: round(value, 4)} | (
            {f"to_{self.name}": self.limit} if self.name in ("ms", "latency") else {}
        )

    def met(self, module: nn.Module) -> bool:
        """Return whether a network is within the limit."""
        return self.measure(module) <= self.limit

    def in_words(self, value: float) -> str:
        """Return a measured value in words."""
        return f"{value:.3g} ms" if self.name == "ms" else f"{value:.1%} of the {self.name}"

    def missed(self, after: float) -> str:
        """Return what was asked for and what is left."""
        if self.name == "ms":
            return f"pruning cannot reach {self.limit:g} ms: {after:.3g} ms is left"
        return f"pruning cannot reach {100 * self.limit:g}% of the {self.name}: {after:.1%} is left"


def budget_of(settings: PruneSettings, state: ModelState, context: Context) -> Budget:
    """Return the budget that settings ask for, against a network as it is."""
    name = settings.budget.removeprefix("to_")
    limit = getattr(settings, settings.budget)
    if name == "latency":
        return Budget(name, limit, share_of(state.torch.module, state.signature, context, limit))
    if name == "ms":
        return Budget(name, limit, milliseconds_of(state.torch.module, state.signature, context, limit))

    def count(module: nn.Module) -> int:
        return count_parameters(module) if name == "parameters" else count_macs(module, state.signature)

    whole = count(state.torch.module)
    return Budget(name, limit, lambda module: count(module) / whole)
