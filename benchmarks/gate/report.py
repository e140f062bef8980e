"""`results.md`, from `results.json`."""

from typing import Any

import numpy as np

TITLES = {"in turns": "in turns with the older artifact", "stored": "stored figures, measured on the quiet machine"}


def report(results: dict[str, Any]) -> str:
    """Return the page."""
    lines = ["# The gate on a loaded machine\n", "<!-- made by run.py -->\n"]
    lines += ["| copy | p50, quiet | CPU time, quiet | minimum, quiet |", "|---|---|---|---|"]
    for name, model in results["models"].items():
        cells = [_ratio(model["ratio"][figure]) for figure in ("latency-p50", "cpu-time", "latency-min")]
        lines.append(f"| {name}, with a branch of its own | {' | '.join(cells)} |")
    lines += [
        "",
        "Ratios to the network itself, with their 95 % interval over twelve launches. Then, while a process on each core computes and rests in turns:\n",
        "| baseline | repetition | same file: failed | undecided | slower copy: failed | undecided | seconds each, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for form, title in TITLES.items():
        for repetition in sorted({one["repetition"] for one in results["comparisons"] if one["form"] == form}):
            part = [one for one in results["comparisons"] if (one["form"], one["repetition"]) == (form, repetition)]
            same, slower = ([one for one in part if one["case"] == case] for case in ("same", "slower"))
            seconds = float(np.median([one["seconds"] for one in part]))
            cells = [f"{_count(one, 1)} | {_count(one, 3)}" for one in (same, slower)]
            lines.append(f"| {title} | {repetition + 1} | {' | '.join(cells)} | {seconds:.1f} |")
    settings = results["settings"]
    lines += [
        "",
        f"`--launches {settings['launches']} --duration {settings['duration_s']:g}s --confirm {settings['confirm']}`, one thread, shared. Failed is exit code 1; undecided is "
        "exit code 3, too noisy to tell.",
        "",
    ]
    return "\n".join(lines)


def _ratio(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _count(comparisons: list[dict[str, Any]], code: int) -> str:
    return f"{sum(one['exit_code'] == code for one in comparisons)} of {len(comparisons)}"
