"""JSON files that others may have written: read, and checked once."""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgekd.errors import InputError
from edgekd.target import explain

Model = TypeVar("Model", bound=BaseModel)
_MOST_BYTES = 64 << 20  # a profile with the layers of a large network has one or two


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; numbers that are not finite become None.

    Raises:
        InputError: it cannot be read, is no regular file (another may never end), is too large, or no JSON object.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"cannot read {path}: it is no regular file")
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise InputError(f"{path} has more than {_MOST_BYTES >> 20} MiB: no command writes so much")
        content = json.loads(text.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
        json.dumps(content, ensure_ascii=False).encode()  # half a character cannot be written again
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object")
    return content


def checked(kind: type[Model], content: Any, where: str) -> Model:
    """Return the content as a model.

    Raises:
        InputError: a field is missing or wrong; the message names it.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from error


def _finite(number: str) -> float | None:
    """Return a number, or None for one that JSON cannot write again, such as the ratio of a signal to no noise."""
    value = float(number)
    return value if math.isfinite(value) else None
