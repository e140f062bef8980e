"""What is done to gradients of groups of samples before the optimizer sees their mean."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny
from torch import Tensor

from edgekd.losses.loss import find_kind

FILTERS: dict[str, type["GradientFilter"]] = {}


class GradientFilter(BaseModel):
    """A function of the gradients that groups of samples give. A subclass with a `kind` of its own registers itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capability: ClassVar[str] = "C03"
    title: ClassVar[str]
    source: ClassVar[str]
    evidence: ClassVar[str]
    variant: ClassVar[str] = ""
    applies: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset({"groups"})

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the subclass under the default of its `kind`."""
        kind = cls.model_fields["kind"].default
        if isinstance(kind, str):
            FILTERS[kind] = cls

    def __call__(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a gradient a parameter (*shape) from those of K groups (K, *shape), by the parameter's name."""
        raise TypeError(f"{type(self).__name__} has no __call__")


def _find_filter(value: Any) -> Any:
    import edgekd.losses  # noqa: F401  # registers all

    return find_kind(value, FILTERS, "gradient filter")


AnyFilter = Annotated[SerializeAsAny[GradientFilter], BeforeValidator(_find_filter)]
