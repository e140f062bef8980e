"""Settings of structured pruning."""

from typing import Literal

from pydantic import Field, model_validator

from edgekd.recipe import StageSettings

BUDGETS = ("to_macs", "to_parameters", "to_latency", "to_ms")


class PruneSettings(StageSettings):
    """Remove channels, or blocks, until one budget is met: a share of MACs, of parameters or of the latency, or milliseconds.

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
    axes: tuple[Literal["depth", "hidden", "heads", "mlp"], ...] = Field(
        default=(),
        description=(
            "what may be cut: depth (whole blocks of a residual network, by their influence) and, of a transformer, the widths "
            "hidden, heads and mlp; empty: all widths, with search the depth too"
        ),
    )
    search: int = Field(
        default=0,
        ge=0,
        le=10,
        description=(
            "of a transformer: how many shapes (blocks, hidden, heads, mlp) of the budget are tried, each distilled shortly from "
            "the uncut network; the best by validation stays; 0: none, one cut by rank"
        ),
    )
    search_epochs: int = Field(default=1, ge=1, le=1000, description="with search: passes over the train part, a shape")
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

    @model_validator(mode="after")
    def _no_contradiction(self) -> "PruneSettings":
        if self.latency_aware and not self.cuts_widths:
            raise ValueError("latency_aware ranks channels, and axes cuts none of them; add a width, or leave it out")
        if self.search and self.latency_aware:
            raise ValueError(
                "search tries whole shapes, which latency_aware does not rank; set to_latency or to_ms alone"
            )
        if not self.search and self.search_epochs != type(self).model_fields["search_epochs"].default:
            raise ValueError("search_epochs needs search, the number of shapes to try")
        return self

    @property
    def cuts_depth(self) -> bool:
        """Return whether whole blocks may go."""
        return "depth" in self.axes or (self.search > 0 and not self.axes)

    @property
    def cuts_widths(self) -> bool:
        """Return whether channels may go."""
        return set(self.axes) != {"depth"}

    @property
    def budget(self) -> str:
        """Return the name of the budget that is set."""
        return next(name for name in BUDGETS if getattr(self, name) is not None)

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the settings that are obeyed by timing files on this machine."""
        aware = ("latency_aware",) if self.latency_aware else ()
        return (*aware, self.budget) if self.budget in ("to_latency", "to_ms") else aware
