"""JSON files that others may have written: read, and checked once."""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgekd.errors import InputError
from edgekd.target import explain

Model = TypeVar("Model", bound=BaseModel)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; numbers that are not finite become None.

    Raises:
        InputError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
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
