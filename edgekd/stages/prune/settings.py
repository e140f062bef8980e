"""Settings of structured pruning."""

from typing import Literal

from pydantic import Field, model_validator

from edgekd.recipe import StageSettings

BUDGETS = ("to_macs", "to_parameters", "to_latency", "to_ms")


class PruneSettings(StageSettings):
    """Remove channels until one budget is met: a share of MACs, of parameters or of the latency, or milliseconds.

    The layers that make the outputs are never cut, nor those whose weights another layer holds too.
    """

    kind: Literal["prune"] = "prune"
    to_macs: float | None = Field(default=None, gt=0, lt=1, description="share of the multiply-accumulates that stays")
    to_parameters: float | None = Field(
        default=None, gt=0, lt=1, description="share of the parameters that stays, in place of to_macs"
    )
    to_latency: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the latency that stays, in place of to_macs; the target must be this machine",
    )
    to_ms: float | None = Field(
        default=None,
        gt=0,
        description="milliseconds, p50 of one float inference, in place of to_macs; the target must be this machine",
    )
    importance: Literal["magnitude", "batch-norm", "taylor", "hessian", "fpgm", "lamp", "activation", "random"] = Field(
        default="magnitude",
        description="what tells which channels matter least; taylor and hessian need labels, activation samples",
    )
    scope: Literal["global", "local", "isomorphic"] = Field(
        default="global",
        description=(
            "global: all layers compete; local: each gives the same share; isomorphic: layers in the same place of like "
            "blocks compete"
        ),
    )
    latency_aware: bool = Field(
        default=False,
        description=(
            "divide the importance by the milliseconds that a channel costs, measured layer by layer; the target must be this "
            "machine"
        ),
    )
    axes: tuple[Literal["hidden", "heads", "mlp"], ...] = Field(
        default=(),
        description=(
            "of a transformer, which widths may be cut: hidden, heads (features of each head; their number stays), mlp; "
            "empty: all"
        ),
    )
    granularity: int | None = Field(
        default=None, ge=1, le=256, description="channel counts stay multiples of it; not set: the target's"
    )
    largest_cut: float = Field(default=0.75, gt=0, lt=1, description="share of a layer's channels that may go at most")
    steps: int = Field(
        default=50, ge=1, le=1000, description="in how many small cuts; the importance is ranked again after each"
    )
    keep: tuple[str, ...] = Field(default=(), description="modules that are left alone; `edgekd inspect` lists them")

    @model_validator(mode="after")
    def _one_budget(self) -> "PruneSettings":
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(BUDGETS)} (given: {', '.join(given) or 'none'})")
        return self

    @property
    def budget(self) -> str:
        """Return the name of the budget that is set."""
        return next(name for name in BUDGETS if getattr(self, name) is not None)

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the settings that are obeyed by timing files on this machine."""
        aware = ("latency_aware",) if self.latency_aware else ()
        return (*aware, self.budget) if self.budget in ("to_latency", "to_ms") else aware
