"""GitLab's metrics report: every figure in the OpenMetrics text format, in base units, and how the gate ended."""

from typing import Any

_BASE_UNITS = {"ms": ("seconds", 1e-3), "mJ": ("joules", 1e-3), "B": ("bytes", 1.0), "points": ("points", 1.0)}


def openmetrics(result: dict[str, Any]) -> str:
    """Return the file's content; a figure that was not measured is left out."""
    model, session = result["model"], result["session"] or {}
    labels = {
        "model": model["name"],
        "target": model["target"] or "",
        "runtime": model["runtime"],
        "threads": session.get("threads", ""),
        "batch": model["batch"],
    }
    told = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())
    lines = []
    for name, figure in result["figures"].items():
        if figure["value"] is not None:
            unit, factor = _BASE_UNITS.get(figure["unit"], ("", 1.0))
            metric = "_".join(filter(None, ("edgekd", name.replace("-", "_"), unit)))
            lines += [f"# TYPE {metric} gauge", *([f"# UNIT {metric} {unit}"] if unit else [])]
            lines.append(f"{metric}{{{told}}} {figure['value'] * factor:.9g}")
    ratios = [check for check in result["checks"] if check["ratio"] and check["ratio"]["value"] is not None]
    if ratios:
        lines += ["# TYPE edgekd_ratio_to_baseline gauge"]
        lines += [
            f'edgekd_ratio_to_baseline{{{told},figure="{check["figure"]}"}} {check["ratio"]["value"]:.9g}'
            for check in ratios
        ]
    lines += ["# TYPE edgekd_gate_exit_code gauge", f"edgekd_gate_exit_code{{{told}}} {result['exit_code']}"]
    return "\n".join([*lines, "# EOF", ""])


def openmetrics_of_error(exit_code: int) -> str:
    """Return the file's content where there is no result."""
    return f"# TYPE edgekd_gate_exit_code gauge\nedgekd_gate_exit_code {exit_code}\n# EOF\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
