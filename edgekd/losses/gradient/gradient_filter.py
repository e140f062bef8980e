"""What is done to gradients of groups of samples before the optimizer sees their mean."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from edgekd.losses.loss import find_kind
from edgekd.losses.method import Method

FILTERS: dict[str, type["GradientFilter"]] = {}


class GradientFilter(Method):
    """A function of the gradients that groups of samples give. A subclass with a `kind` of its own registers itself."""

    registry: ClassVar[dict[str, Any]] = FILTERS
    capability: ClassVar[str] = "C03"
    needs: ClassVar[frozenset[str]] = frozenset({"groups"})

    def __call__(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a gradient a parameter (*shape) from those of K groups (K, *shape), by the parameter's name."""
        raise TypeError(f"{type(self).__name__} has no __call__")


def _find_filter(value: Any) -> Any:
    import edgekd.losses  # noqa: F401  # registers all

    return find_kind(value, FILTERS, "gradient filter")


AnyFilter = Annotated[SerializeAsAny[GradientFilter], BeforeValidator(_find_filter)]
