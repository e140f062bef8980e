"""The budget: limits on figures, and how much worse than the baseline each may be."""

import importlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DeviceError
from ..files import refuse_no_file
from ..nearest import nearest
from .figures import KINDS
from .quantities import quantity

REGRESSION = "regression"


@dataclass(frozen=True)
class Budget:
    """`limits` in the unit of each figure's kind; `thresholds` in percent above the baseline, where the budget names them."""

    limits: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)


def read_budget(sources: Sequence[str]) -> Budget:
    """Return the budget that files and `figure=limit` pairs make together; of two limits on a figure the later one holds.

    Raises:
        DeviceError: A file cannot be read, or a figure, a limit or a unit is not known; the message names the known ones.
    """
    limits: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    for source in sources:
        name, _, limit = source.partition("=")
        if _is_pair(source):
            limits |= _limits({name.strip(): limit}, "--budget")
            continue
        content = dict(_content(Path(source)))
        thresholds |= _thresholds(content.pop(REGRESSION, {}), source)
        limits |= _limits(content, source)
    return Budget(limits, thresholds)


def files_of(sources: Sequence[str]) -> list[Path]:
    """Return the files among what `read_budget` takes."""
    return [Path(source) for source in sources if not _is_pair(source)]


def _is_pair(source: str) -> bool:
    return "=" in source and not Path(source).is_file()


def _figure(name: str, where: str) -> str:
    if name not in KINDS:
        raise DeviceError(f"{where}: unknown figure {name!r}{nearest(name, KINDS)}; known: {', '.join(KINDS)}")
    return name


def _limits(content: Mapping[str, Any], where: str) -> dict[str, float]:
    return {
        name: quantity(written, KINDS[_figure(name, where)].dimension, f"{where}: {name}")
        for name, written in content.items()
    }


def _thresholds(content: Any, source: str) -> dict[str, float]:
    if not isinstance(content, Mapping):
        raise DeviceError(f"{source}: [{REGRESSION}] must be a table of figures and percents")
    found = {}
    for name, written in content.items():
        if _figure(name, f"{source}: [{REGRESSION}]") == "accuracy-drop":
            raise DeviceError(f"{source}: [{REGRESSION}] accuracy-drop is a difference already: give it as a limit")
        percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%?\s*", str(written))
        if percent is None or isinstance(written, bool) or not 0 < float(percent[1]) < math.inf:
            raise DeviceError(f"{source}: [{REGRESSION}] {name}: {written!r} is no percentage above 0, such as 5")
        found[name] = float(percent[1])
    return found


def _content(path: Path) -> Mapping[str, Any]:
    refuse_no_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DeviceError(f"--budget {path}: no such file; or give a limit, such as latency-p95=20ms") from error
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DeviceError(f"cannot read {path}: it is no text") from error
    try:
        content = json.loads(text) if path.suffix == ".json" else _toml(path)(text)
    except (ValueError, RecursionError) as error:
        raise DeviceError(f"{path} is not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from error
    if not isinstance(content, Mapping):
        raise DeviceError(f"{path} must hold an object of figures and limits")
    return content


def _toml(path: Path) -> Any:
    try:
        return importlib.import_module("tomllib").loads  # only Python 3.11 and newer has it
    except ModuleNotFoundError as error:
        raise DeviceError(
            f"{path}: this Python reads no TOML (3.11 and newer do): write the budget as a .json file"
        ) from error
