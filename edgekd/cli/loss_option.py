"""Losses as they are written on the command line."""

from collections.abc import Sequence
from typing import Any

from edgekd.cli.table_option import read_value, split_table


def read_losses(
    texts: Sequence[str], task: float | None, alpha: float | None, temperature: float | None
) -> dict[str, Any]:
    """Return the settings `losses` and `task` that the options give; only what was given.

    Raises:
        InputError: an option has a wrong form, or two contradict each other.
    """
    from edgekd.errors import InputError
    from edgekd.stages.distill.settings import KL

    if (alpha is not None or temperature is not None) and texts:
        raise InputError(
            "--alpha and --temperature belong to the loss kl that is taken without --loss; write kl:temperature=4"
        )
    if alpha is not None and task is not None:
        raise InputError("--alpha is short for --task 1-ALPHA; give one of them")
    if alpha is not None and not 0 < alpha <= 1:
        raise InputError(f"--alpha: its value is above 0 and at most 1, not {alpha:g}")
    if texts:
        return {"losses": [read_loss(text) for text in texts]}
    if alpha is None and temperature is None:
        return {}
    table: dict[str, Any] = {"kind": "kl", "weight": KL if alpha is None else alpha}
    if temperature is not None:
        table["temperature"] = temperature
    return {"losses": [table], **({} if alpha is None else {"task": 1 - alpha})}


def read_loss(text: str) -> dict[str, Any]:
    """Read KIND[:NAME=VALUE,...]; a value is written as in TOML, or plain text; NAME.KEY=VALUE fills a table.

    Taps are module paths, so text even where they are numbers.

    Raises:
        InputError: a setting has no value, or a list or a table is not written as in TOML.
    """
    from edgekd.errors import InputError

    kind, settings = split_table(text, "--loss")
    table: dict[str, Any] = {"kind": kind}
    for name, value in settings:
        head, dot, key = name.partition(".")
        read = read_value(value, f"--loss '{text}'")
        if (head == "taps" or head.endswith("tap")) and isinstance(read, int | float):
            read = value
        if head == "taps" and not dot and not isinstance(read, dict):
            raise InputError(f"--loss {text}: write taps.TAP=TEACHER_TAP, for example taps.{value}={value}")
        if dot:
            table.setdefault(head, {})[key] = read
        else:
            table[head] = read
    return table
