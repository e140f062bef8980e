"""Hold an artifact or ONNX file against a budget and a baseline, and keep baselines; the work is the device half's."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekd.device.gate import gate as gating
from edgekd.device.gate.budget import read_budget
from edgekd.device.gate.rounds import GateSettings
from edgekd.errors import InputError, device_errors_as
from edgekd.verbs.runs import REPORT
from edgekd.verbs.timed_model import Shapes, launchable


@device_errors_as(InputError)
def gate(
    path: Path,
    budget: Sequence[str],
    settings: GateSettings,
    *,
    baseline: Path | None = None,
    report: Path | None = None,
    runtime: str | None = None,
    batch: int | None = None,
    shapes: Shapes = (),
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Measure an artifact, a run's or an ONNX file, and judge it.

    Args:
        path: What is judged.
        budget: Files, and pairs such as `latency-p95=20ms`.
        settings: How it is measured.
        baseline: A `.json` file of `update_baseline`, or what else `path` may be, which is then timed in turns.
        report: The run's `report.json`; by itself that of the run directory which `path` is.
        runtime: Another one than the file is for.
        batch: Samples a call.
        shapes: Of inputs, as `shapes.named_shape` reads them.
        say: Takes a line of what is going on.

    Returns:
        The result as docs/gate.md describes it.

    Raises:
        InputError: something is unknown, missing or not comparable.
        ToolMissing: the runtime is not installed.
        StageError: the artifact is damaged.
    """
    limits = read_budget(budget)
    stored = baseline is not None and baseline.suffix == ".json"
    older = None if baseline is None or stored else launchable(baseline, batch, runtime, settings.seed, shapes)
    if report is None and (path / REPORT).is_file():
        report = path / REPORT
    return gating.gate(
        launchable(path, batch, runtime, settings.seed, shapes),
        limits,
        settings,
        older=older,
        stored=baseline if stored else None,
        report=report,
        say=say,
    )


@device_errors_as(InputError)
def update_baseline(
    path: Path,
    output: Path,
    settings: GateSettings,
    *,
    runtime: str | None = None,
    batch: int | None = None,
    shapes: Shapes = (),
) -> dict[str, Any]:
    """Measure an artifact, a run's or an ONNX file and write its figures into a baseline file; return the entry.

    Raises:
        InputError: it is neither, or the file cannot be written or holds something else.
        ToolMissing: the runtime is not installed.
        StageError: it could not be measured.
    """
    return gating.update_baseline(launchable(path, batch, runtime, settings.seed, shapes), output, settings)
