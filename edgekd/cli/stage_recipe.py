"""Recipes for the commands that run one stage alone."""

from typing import Any, Literal

_OTHERWISE = {
    "losses": "loss",
    "teacher_cache": "cache",
    "rewrites": "rewrite",
    "calibrators": "calibrator",
}  # settings whose option has another name


def one_stage(kind: str, options: dict[str, Any]) -> Any:
    """Return the recipe of one stage; options that were not given keep their defaults.

    Raises:
        InputError: an option has a wrong value.
    """
    return stages_in_order(kind, {kind: options})


def stages_in_order(name: str, stages: dict[str, dict[str, Any]]) -> Any:
    """Return a recipe of stages with their options, by kind; options that were not given keep their defaults.

    Raises:
        InputError: an option has a wrong value.
    """
    from pydantic import ValidationError

    from edgekd.errors import InputError
    from edgekd.recipe import Recipe
    from edgekd.stages import KINDS

    made = []
    for kind, options in stages.items():
        given = {option: value for option, value in options.items() if value not in (None, ())}
        try:
            made.append(KINDS[kind].model_validate(given))
        except ValidationError as error:
            raise InputError("; ".join(_in_options(finding, options) for finding in error.errors())) from error
    return Recipe(name=name, stages=tuple(made))


def without_stages(input_kind: Literal["float32", "uint8"], *, include_samples: bool) -> Any:
    """Return the recipe that only exports."""
    from edgekd.recipe import ExportSettings, Recipe

    return Recipe(name="export", export=ExportSettings(input=input_kind, include_samples=include_samples))


def _in_options(finding: Any, options: dict[str, Any]) -> str:
    """Return one of pydantic's findings in the words of the command line."""
    from edgekd.findings import in_words
    from edgekd.target import fields_of

    message = in_words(finding)
    for name in options:
        if "_" in name:  # one word may be meant as a word
            message = message.replace(name, option_name(name))
    if not finding["loc"]:
        return str(message)
    first, *inside = fields_of(finding["loc"])
    field = ".".join(name for name in inside if isinstance(name, str))  # numbers count what was repeated
    return ": ".join(part for part in (option_name(str(first)), field, message) if part)


def option_name(name: str) -> str:
    """Return the option that sets a setting."""
    return "--" + _OTHERWISE.get(name, name).replace("_", "-")
