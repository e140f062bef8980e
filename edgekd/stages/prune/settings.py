"""Settings of structured pruning."""

from typing import Literal

from pydantic import Field, model_validator

from edgekd.recipe import StageSettings


class PruneSettings(StageSettings):
    """Remove channels until one budget is met: a share of MACs, of parameters, or of this machine's latency.

    The layers that make the outputs are never cut.
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
    importance: Literal["magnitude", "batch-norm", "taylor", "random"] = Field(
        default="magnitude", description="what tells which channels matter least"
    )
    scope: Literal["global", "local"] = Field(
        default="global", description="global: all layers compete; local: each gives the same share"
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
        given = [name for name in ("to_macs", "to_parameters", "to_latency") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of to_macs, to_parameters, to_latency (given: {', '.join(given) or 'none'})"
            )
        return self
