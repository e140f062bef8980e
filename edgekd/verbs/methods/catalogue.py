"""Every method that a recipe may name, read off the registries."""

import difflib
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgekd.errors import InputError
from edgekd.losses import COMMITTEES, FILTERS, LOSSES, POLICIES, WEIGHTS

Role = Literal["loss", "importance", "layers", "committee", "gradient_filter"]
EVIDENCE = {
    "C": "read in the authors' released code",
    "A": "read in the paper's abstract or page",
    "S": "named in a survey only",
    "D": "filled in from known prior work or by derivation",
}


@dataclass(frozen=True)
class Setting:
    """One setting of a method: its name, default (None where it is required or not set), and meaning."""

    name: str
    default: Any
    required: bool
    description: str


@dataclass(frozen=True)
class Method:
    """One method: `role` is the recipe's field that takes it."""

    kind: str
    role: Role
    capability: str
    title: str
    source: str
    evidence: str
    variant: str
    applies: str
    needs: tuple[str, ...]
    settings: tuple[Setting, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        content = dict(vars(self))
        content["needs"] = list(self.needs)
        content["settings"] = [vars(setting) for setting in self.settings]
        return content


def catalogue() -> list[Method]:
    """Return all methods: losses first, each group by capability and kind."""
    registries: tuple[tuple[Role, dict[str, Any]], ...] = (
        ("loss", LOSSES),
        ("importance", WEIGHTS),
        ("layers", POLICIES),
        ("committee", COMMITTEES),
        ("gradient_filter", FILTERS),
    )
    methods = []
    for role, registry in registries:
        found = [_method(role, kind, cls) for kind, cls in registry.items()]
        methods += sorted(found, key=lambda method: (method.capability, method.kind))
    return methods


def find_method(kind: str) -> list[Method]:
    """Return the methods of that kind; a name may stand for a loss and a committee.

    Raises:
        InputError: there is none; the nearest names are given.
    """
    methods = catalogue()
    found = [method for method in methods if method.kind == kind]
    if not found:
        nearest = difflib.get_close_matches(kind, [method.kind for method in methods], n=3)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        raise InputError(f"no method {kind!r}{hint}; `edgekd methods` lists all")
    return found


def _method(role: Role, kind: str, cls: type[Any]) -> Method:
    return Method(
        kind=kind,
        role=role,
        capability=cls.capability,
        title=cls.title,
        source=cls.source,
        evidence=cls.evidence,
        variant=cls.variant,
        applies=cls.applies,
        needs=tuple(sorted(getattr(cls, "needs", ()))),
        settings=tuple(
            Setting(
                name,
                None if field.is_required() else _plain(field.default),
                field.is_required(),
                field.description or "",
            )
            for name, field in cls.model_fields.items()
            if name != "kind" and field.default is not ...
        ),
    )


def _plain(value: Any) -> Any:
    """Return a default as plain JSON."""
    if value is PydanticUndefined:
        return None
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (tuple, list, frozenset)):
        return [_plain(one) for one in value]
    return value
