"""The JSON that github-action-benchmark draws over time, as its tool `customSmallerIsBetter`."""

import json
from typing import Any

from .table import headline


def benchmark_json(result: dict[str, Any]) -> str:
    """Return the file's content; a figure that was not measured is left out."""
    model = result["model"]
    entries = []
    for name, figure in result["figures"].items():
        if figure["value"] is None:
            continue
        entry = {"name": f"{model['name']} {name}", "unit": figure["unit"] or "instructions", "value": figure["value"]}
        if figure["low"] is not None and figure["high"] is not None:
            entry["range"] = f"{figure['low']:.4g} to {figure['high']:.4g}"
        entry["extra"] = f"{headline(result)}\n{figure['how']}, model {model['sha256'][:12]}"
        entries.append(entry)
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
