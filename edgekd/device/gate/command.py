"""`run.pyz gate` and `run.pyz baseline`: the gate on the board itself. Heavy imports wait until a command runs."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..durations import LIMIT_S
from ..errors import DeviceError
from ..streams import show

if TYPE_CHECKING:
    from .rounds import GateSettings

Duration = Callable[[str], float]


def add_parsers(commands: Any, parents: list[argparse.ArgumentParser], duration: Duration) -> None:
    """Add both commands to the command line; `parents` hold the options that they share with others."""
    measuring = argparse.ArgumentParser(add_help=False)
    measuring.add_argument("--duration", type=duration, default=10.0, metavar="TIME", help="of a round (default: 10s)")
    measuring.add_argument("--launches", type=int, default=6, metavar="N", help="processes of a round (default: 6)")
    measuring.add_argument("--seed", type=int, default=0, metavar="N", help="of the order of the blocks")
    measuring.add_argument(
        "--time-limit", type=duration, default=LIMIT_S, metavar="TIME", help="of a launch (default: 10m)"
    )

    gate = commands.add_parser(
        "gate", parents=[*parents, measuring], help="fail where a budget or a baseline is missed"
    )
    gate.add_argument("--budget", action="append", default=[], metavar="FILE|FIGURE=LIMIT", help="repeatable")
    gate.add_argument(
        "--baseline", type=Path, metavar="DIR|FILE", help="the older artifact, or a file of `baseline update`"
    )
    gate.add_argument("--report", type=Path, metavar="FILE", help="the run's report.json, for the accuracy drop")
    gate.add_argument("--confirm", type=int, default=2, metavar="N", help="further rounds before it fails (default: 2)")
    gate.add_argument("--shared", action="store_true", default=None, help="other work shares this machine")
    gate.add_argument("--dedicated", action="store_false", dest="shared", help="nothing else runs here")
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    gate.add_argument("--gitlab-metrics", type=Path, metavar="FILE", help="write OpenMetrics")
    gate.add_argument("--benchmark-json", type=Path, metavar="FILE", help="write github-action-benchmark's JSON")
    gate.add_argument("--github", action="store_true", help="print GitHub's annotations")

    baseline = commands.add_parser("baseline", help="keep the figures that later versions are compared with")
    acts = baseline.add_subparsers(dest="act", required=True, metavar="{update}")
    update = acts.add_parser("update", parents=[*parents, measuring], help="measure and write them")
    update.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the baseline file")


def execute(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str, int]:
    """Run `gate` or `baseline update`; return the result, its text and the exit code."""
    return _update(options, folder) if options.command == "baseline" else _gate(options, folder)


def _update(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str, int]:
    from ..launches.subject import subject_of
    from .gate import update_baseline
    from .outputs.text import baseline_text

    settings = _settings(options)
    entry = update_baseline(subject_of(folder, options.batch, options.runtime, options.shape), options.output, settings)
    return entry, baseline_text(entry), 0


def _gate(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str, int]:
    from .budget import files_of
    from .outputs import Outputs
    from .outputs.text import text

    outputs = Outputs(options.junit, options.gitlab_metrics, options.benchmark_json, options.github)
    given = (folder, options.baseline, options.report)
    outputs.check([*(one for one in given if one is not None), *files_of(options.budget)])

    def annotate(lines: list[str]) -> None:
        for line in lines:
            show(line, stderr=options.json)

    try:
        result = _judged(options, folder)
    except (DeviceError, KeyboardInterrupt) as error:
        said, code = (str(error), error.exit_code) if isinstance(error, DeviceError) else ("interrupted", 3)
        with contextlib.suppress(DeviceError, OSError):  # what went wrong first is what a person must read
            annotate(outputs.refuse(said, code))
        raise
    annotate(outputs.write(result))
    return result, text(result), int(result["exit_code"])


def _judged(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from ..launches.subject import subject_of
    from .budget import read_budget
    from .gate import gate

    settings = _settings(options, confirm=options.confirm, shared=options.shared)
    older: Path | None = options.baseline
    in_turns = older is not None and older.is_dir()
    if older is not None and not in_turns and older.suffix != ".json":
        raise DeviceError(
            f"--baseline {older}: on the board it is an artifact folder or a .json of `baseline update`; "
            "`edgekd gate` on the host takes an ONNX file, too"
        )
    return gate(
        subject_of(folder, options.batch, options.runtime, options.shape),
        read_budget(options.budget),
        settings,
        older=subject_of(older, options.batch, options.runtime, options.shape)
        if in_turns and older is not None
        else None,
        stored=None if in_turns else older,
        report=options.report,
        say=lambda message: print(message, file=sys.stderr),
    )


def _settings(options: argparse.Namespace, **more: Any) -> "GateSettings":
    from .rounds import GateSettings

    return GateSettings(
        duration_s=options.duration,
        launches=options.launches,
        threads=options.threads,
        sensor=options.sensor,
        counter=options.instructions,
        seed=options.seed,
        limit_s=options.time_limit,
        **more,
    )
