"""Tables with a kind as they are written on the command line: KIND[:NAME=VALUE,...]."""

import tomllib
from typing import Any


def read_table(text: str, option: str) -> dict[str, Any]:
    """Read KIND[:NAME=VALUE,...]; a value is written as in TOML, or plain text; NAME.KEY=VALUE fills a table.

    Raises:
        InputError: a setting has no value, or a list or a table is not written as in TOML.
    """
    kind, settings = split_table(text, option)
    table: dict[str, Any] = {"kind": kind}
    for name, value in settings:
        head, dot, key = name.partition(".")
        if dot:
            table.setdefault(head, {})[key] = read_value(value, f"{option} '{text}'")
        else:
            table[head] = read_value(value, f"{option} '{text}'")
    return table


def split_table(text: str, option: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the kind and the settings as they are written, each a name and a value.

    Raises:
        InputError: a setting has no value.
    """
    from edgekd.errors import InputError

    kind, _, rest = text.partition(":")
    settings = []
    for setting in _split(rest):
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise InputError(f"{option} {text}: {setting!r} is not NAME=VALUE")
        settings.append((name, value))
    return kind, settings


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "[{") - (character in "]}")
        if character == "," and not depth:
            parts.append(text[start:position])
            start = position + 1
    return [part for part in [*parts, text[start:]] if part]


def read_value(text: str, given: str) -> Any:
    """Read a value as TOML does; what is no TOML is text, but for what begins as a list or a table.

    Args:
        text: The value.
        given: The option that holds it, for the message.

    Raises:
        InputError: it begins as a list or a table and is none.
    """
    from edgekd.errors import InputError

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError as error:
        if text.startswith(("[", "{")):
            raise InputError(
                f"{given}: {text} is no {'list' if text[0] == '[' else 'table'} as in TOML; texts in it stand in double quotes, "
                "which the shell takes away unless the whole option stands in single quotes"
            ) from error
        return text
