"""The accuracy drop, from the report of the run that made the artifact."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DeviceError
from ..files import read_json
from ..launches.figures import Figure
from ..launches.subject import Subject

_ADVICE = "name the run directory, or its report with --report report.json"


def accuracy_drop(subject: Subject, report: Path | None) -> Figure:
    """Return how much worse the metric got from the network that was given to the exported file, in the metric's own unit.

    Raises:
        DeviceError: The report cannot be read, or is none.
    """
    if report is None:
        return Figure(None, reason=f"the drop stands in the run's report.json: {_ADVICE}")
    content = read_json(report)
    try:
        for one in content.get("targets", [content]):  # by hash: a file keeps it under another name
            if any(file["sha256"] == subject.sha256 for file in one["artifact"].values()):
                return _drop(one)
    except (AttributeError, LookupError, TypeError) as error:
        raise DeviceError(f"{report} is no report.json of a run (docs/report.md): {_ADVICE}") from error
    return Figure(None, reason=f"{report} is about another model file than this {subject.file.name}: {_ADVICE}")


def _drop(report: Mapping[str, Any]) -> Figure:
    before, after = report["stages"][0]["figures"]["score"], report["final"]["figures"]["score"]
    if before["value"] is None or after["value"] is None:
        return Figure(None, reason=before.get("reason") or after.get("reason"))
    better, worse = (before, after) if report["metric"]["higher_is_better"] else (after, before)
    drop = better["value"] - worse["value"]
    return Figure(drop, how=after["how"], samples=after.get("samples"))
