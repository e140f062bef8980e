"""What pydantic finds wrong with a setting, in our words: what the value must be, and what it is."""

from typing import Any

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": 'text in quotes, such as "name"',
    "tuple": 'a list, such as ["a", "b"]',
    "list": 'a list, such as ["a", "b"]',
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "model_attributes": "a table",
}
_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("greater than or equal to", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("less than or equal to", "le"),
}


def in_words(finding: Any) -> str:
    """Return one finding of a `ValidationError`, without the field's name."""
    kind, context = finding["type"], finding.get("ctx", {})
    base = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    match kind:
        case "missing":
            return "is missing; add it"
        case "extra_forbidden":
            return "there is no such setting here; remove it, or correct its name"
        case "too_short":
            return f"name {_count(context['min_length'])} at least"
        case "too_long":
            return f"name {_count(context['max_length'])} at most, not {context['actual_length']}"
        case "string_too_short":
            return "must not be empty"
        case "literal_error" | "enum":
            return f"must be {context['expected']}{_instead(finding)}"
        case "finite_number":
            return f"must be a finite number{_instead(finding)}"
        case _ if kind in _LIMITS:
            words, end = _LIMITS[kind]
            return f"must be {words} {context[end]:g}{_instead(finding)}"
        case _ if base in _TYPES:
            return f"must be {_TYPES[base]}{_instead(finding)}"
        case _:
            return str(finding["msg"]).removeprefix("Value error, ")


def _count(number: int) -> str:
    return "one" if number == 1 else str(number)


def _instead(finding: Any) -> str:
    """Return what was given, where it is short enough to be shown."""
    given = finding.get("input")
    return f", not {given!r}" if isinstance(given, (str, int, float)) and len(str(given)) <= 40 else ""
