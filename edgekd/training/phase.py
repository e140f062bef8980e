"""A phase of distillation: its losses, its data, and what is frozen in it."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from edgekd.files import sha256
from edgekd.losses import AnyCommittee, AnyFilter, AnyLoss
from edgekd.losses.schedule import Coefficient, constant


class Phase(BaseModel):
    """What is minimized, on what data, with what frozen, for how many epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    name: str = Field(default="distill", min_length=1, description="what logs and reports call it")
    epochs: int | None = Field(default=None, ge=1, le=10_000, description="passes over its data; not set: the stage's")
    task: Coefficient = Field(
        default=constant(0.0), description="coefficient of the task's own loss: a number, or a schedule"
    )
    losses: tuple[AnyLoss, ...] = Field(default=(), description="names, or tables with `kind`, of `edgekd methods`")
    committee: AnyCommittee | None = Field(default=None, description="how several teachers become one answer")
    gradient_filter: AnyFilter | None = Field(
        default=None, description="what is done to the gradients of sample groups"
    )
    freeze: tuple[str, ...] = Field(default=(), description="modules that are not trained, their statistics kept")
    data: str | None = Field(
        default=None, description="other data for this phase, as for --data; labels are not needed"
    )
    learning_rate: float | None = Field(default=None, gt=0, description="of this phase; not set: the stage's")

    @cached_property
    def term_names(self) -> tuple[str, ...]:
        """Return a name for every loss: its kind, numbered where one occurs twice."""
        kinds = [loss.kind for loss in self.losses]
        return tuple(
            kind if kinds.count(kind) == 1 else f"{kind}-{kinds[: position + 1].count(kind)}"
            for position, kind in enumerate(kinds)
        )

    def named_methods(self) -> Iterator[tuple[str, Any]]:
        """Yield every method with the name under which its memory is kept."""
        for position, loss in enumerate(self.losses):
            yield f"loss{position}", loss
            if loss.importance is not None:
                yield f"importance{position}", loss.importance
        if self.committee is not None:
            yield "committee", self.committee

    def methods(self) -> list[Any]:
        """Return every method: losses, weights, committee."""
        return [method for _, method in self.named_methods()]

    @property
    def needs(self) -> frozenset[str]:
        """Return all that the methods need of a step."""
        needs: frozenset[str] = frozenset()
        for method in [*self.methods(), *self._policies()]:
            needs |= method.needed
        return needs | (self.gradient_filter.needs if self.gradient_filter else frozenset())

    def needing_labels(self) -> list[str]:
        """Return the kinds of the methods that need labels."""
        return [method.kind for method in [*self.methods(), *self._policies()] if "labels" in method.needed]

    def file_hashes(self) -> list[str | None]:
        """Return the hash of every file that its methods read, None where it is not there."""
        files = [path for method in [*self.methods(), *self._policies()] for path in method.files()]
        return [sha256(path) if path.is_file() else None for path in files]

    def _policies(self) -> list[Any]:
        policies = [getattr(loss, "layers", None) for loss in self.losses]
        return [policy for policy in policies if policy is not None]

    @property
    def wants_outputs(self) -> bool:
        """Return whether teachers must answer with their outputs, not only with features."""
        return "teacher" in self.needs
