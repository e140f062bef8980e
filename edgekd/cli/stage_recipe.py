"""Recipes for the commands that run one stage alone."""

from typing import Any, Literal

from pydantic import ValidationError

from edgekd.errors import InputError
from edgekd.recipe import ExportSettings, Recipe
from edgekd.stages import KINDS
from edgekd.target import explain


def one_stage(kind: str, options: dict[str, Any]) -> Recipe:
    """Return the recipe of one stage; options that were not given keep their defaults.

    Raises:
        InputError: an option has a wrong value.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    try:
        return Recipe(name=kind, stages=(KINDS[kind].model_validate(given),))
    except ValidationError as error:
        raise InputError(f"{kind}: {explain(error)}") from error


def without_stages(input_kind: Literal["float32", "uint8"], *, include_samples: bool) -> Recipe:
    """Return the recipe that only exports."""
    return Recipe(name="export", export=ExportSettings(input=input_kind, include_samples=include_samples))
