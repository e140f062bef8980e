"""What every method of the catalogue is: frozen settings with a kind, and where it comes from."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Method(BaseModel):
    """Settings of a method; a subclass whose `kind` has a default registers itself in its role's `registry`.

    Class variables: `capability` and `evidence` as in `docs/methods.md`; `source` names the paper and equation; `variant`
    says what is edgekd's own detail; `applies` where it is of use; `needs` what a step must hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry: ClassVar[dict[str, Any]]
    capability: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    evidence: ClassVar[str]
    variant: ClassVar[str] = ""
    applies: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]]

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the subclass under the default of its `kind`."""
        kind = cls.model_fields["kind"].default
        if isinstance(kind, str):
            cls.registry[kind] = cls

    @property
    def needed(self) -> frozenset[str]:
        """Return what a step must hold for these settings: `needs`, less what they do without."""
        return self.needs

    def files(self) -> tuple[Path, ...]:
        """Return the files that it reads: their content, too, makes a training what it is."""
        return tuple(value for name in type(self).model_fields if isinstance(value := getattr(self, name), Path))
